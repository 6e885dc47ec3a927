"""Banks of adapters: a directory with a manifest, summaries and PEFT adapters of one base."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lorameta.bank.bank import AdapterBank
from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest
from lorameta.files.shipped import embedded_path

if TYPE_CHECKING:
    from lorameta.bank.check import CheckReport, check_bank, check_directory
    from lorameta.bank.write import write_bank

__all__ = [
    "AdapterBank",
    "AdapterRecord",
    "BaseRecord",
    "CheckReport",
    "Manifest",
    "check_bank",
    "check_directory",
    "embedded_path",
    "write_bank",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "lorameta.bank.write" if name == "write_bank" else "lorameta.bank.check"
    return getattr(import_module(home), name)  # to open a bank is quicker without them
