"""The bank smollm2 of lorameta: data files, found by lorameta and never imported by it."""
