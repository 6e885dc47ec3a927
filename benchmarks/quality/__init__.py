"""How much of the gap between the base model and fine-tuning each way of making an adapter closes."""
