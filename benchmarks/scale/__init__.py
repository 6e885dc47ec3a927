"""What mixing costs on a bank of hundreds of adapters of a 7B model."""
