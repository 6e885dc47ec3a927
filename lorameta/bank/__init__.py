"""Banks of adapters: a directory with a manifest, summaries and PEFT adapters of one base."""

from __future__ import annotations

from lorameta.bank.bank import AdapterBank
from lorameta.bank.check import CheckReport, check_bank, check_directory
from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest
from lorameta.bank.write import write_bank
from lorameta.files.shipped import embedded_path

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
