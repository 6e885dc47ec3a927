"""The base model: where it is, its shape, its weights, and what it makes of a row (tokens, loss)."""
