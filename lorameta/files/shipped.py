"""Where the bank that comes with lorameta is."""

from __future__ import annotations

from pathlib import Path

from lorameta.errors import BankError


def embedded_path() -> Path:
    """The embedded bank's directory: inside an installed package, or beside the package in a clone.

    Raises
    ------
    BankError
        It is in neither place: this copy of lorameta was installed without it.
    """
    package = Path(__file__).resolve().parent.parent
    candidates = [package / "adapter_bank", package.parent / "adapter_bank"]
    for path in candidates:
        if (path / "bank.json").is_file():
            return path
    raise BankError(
        f"this copy of lorameta has no embedded bank (looked for bank.json in {' and '.join(map(str, candidates))}); "
        "install lorameta from a wheel or a full clone, or give the directory of a bank"
    )
