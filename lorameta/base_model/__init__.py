"""The base model: where it is, its shape, its weights, and what it makes of a row (tokens, loss)."""

#: Stands for all linear layers but the head, as in PEFT. It is here, where settings find it without an import.
ALL_LINEAR = "all-linear"
