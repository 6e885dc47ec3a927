"""Weights of many adapters of one layout in one safetensors file, and the moves into and out of it."""
