"""Mixtures: distances and weights before adapters are added up, novelty of a dataset, forecast of the gain."""
