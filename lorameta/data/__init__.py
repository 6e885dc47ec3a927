"""Rows in, `Example`s out: files, lists of dicts and datasets, with every bad row named by its place."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lorameta.data.example import Example, Turn, fingerprint, join_prompt
from lorameta.data.hub import HubDataset
from lorameta.data.options import ReadOptions
from lorameta.data.report import ReadReport, read_alike
from lorameta.data.template import PromptTemplate
from lorameta.data.turns import instruction_prompt

if TYPE_CHECKING:
    from lorameta.data.examples import Dataset, dataset_name, load_examples, read_examples

__all__ = [
    "Dataset",
    "Example",
    "HubDataset",
    "PromptTemplate",
    "ReadOptions",
    "ReadReport",
    "Turn",
    "dataset_name",
    "fingerprint",
    "instruction_prompt",
    "join_prompt",
    "load_examples",
    "read_alike",
    "read_examples",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("lorameta.data.examples"), name)  # who opens a bank reads no rows
