"""`lorameta bank train`: a bank of adapters from a folder of datasets.

run (the story) · tasks (the folder) · plan (workers, keys) · spread (joblib, dask) · worker (one training) ·
store (what a killed run keeps) · estimate (time left) · write (the bank).
"""

from __future__ import annotations

from lorameta.bank_builder.train.plan import BankPlan
from lorameta.bank_builder.train.run import BankProgress, BankTraining, train_bank

__all__ = ["BankPlan", "BankProgress", "BankTraining", "train_bank"]
