"""Banks made from, and published to, the Hugging Face Hub."""
