"""What was found, in a form that people read."""
