"""Bytes on disk: atomic writes, hashes, safetensors; nothing about adapters."""
