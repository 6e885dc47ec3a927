"""Measurements of lorameta: what its adapters are worth, and what they cost."""
