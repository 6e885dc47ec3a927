"""Figures that notebooks and benchmarks share; matplotlib is imported when one is drawn."""
