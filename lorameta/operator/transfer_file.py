"""Keeping the worth of a bank's adapters with the bank, and reading it back: ``operators/transfer.safetensors``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorameta.errors import BankError, UsageError
from lorameta.operator import fitted_file

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank


def path_of(bank: AdapterBank) -> Path:
    """Return where the bank keeps it."""
    return bank.path / "operators" / "transfer.safetensors"


def save(worth: np.ndarray, bank: AdapterBank, *, rows: int) -> Path:
    """Keep the worth of every adapter to every task with the whole bank, written as a whole.

    Parameters
    ----------
    worth : numpy.ndarray of shape (N, N)
        In the order of ``bank.ids``: row i, of each adapter to task i. Stored in float32.
    bank : AdapterBank
    rows : int
        Per task, from which it was measured.

    Raises
    ------
    UsageError
        It is of a part of the bank, of other adapters, or not finite.
    """
    from lorameta import __version__

    n = len(bank.manifest.adapters)
    if len(bank) != n or worth.shape != (n, n) or not np.isfinite(worth).all():
        raise UsageError(f"the worth must be finite numbers of all {n} adapters of the bank; got {worth.shape}")
    header = {
        "operator": "transfer", "distance": "any", "content_hash": bank.content_hash, "rows": rows,
        "adapters": [bank.records[name].sha256 for name in bank.ids], "version": __version__,
    }  # fmt: skip
    return fitted_file.save(path_of(bank), header, {"worth": worth.astype(np.float32)})


def load(bank: AdapterBank) -> np.ndarray:
    """Read the worth of the adapters of a bank, or of those that a view of it shows.

    Returns
    -------
    numpy.ndarray of shape (N, N), float64
        In the order of ``bank.ids``.

    Raises
    ------
    BankError
        There is none, it is damaged, or adapters were added or changed since; with the remedy.
    """
    path = path_of(bank)
    remedy = f"measure it with: lorameta bank fit {shlex.quote(str(bank.path))} --operator transfer --tasks FOLDER"
    lacking = f"the bank {bank.name} does not say what its adapters are worth to other tasks"
    with fitted_file.reading(path, lacking, remedy) as (header, arrays):
        worth = arrays["worth"]
        known = {str(sha256): place for place, sha256 in enumerate(header["adapters"])}
        if worth.shape != (len(known), len(known)) or not np.isfinite(worth).all():
            raise ValueError("its size or its numbers are not those that this version of lorameta writes")
    missing = [name for name in bank.ids if bank.records[name].sha256 not in known]
    if missing:
        raise BankError(
            f"{path} was measured before {len(missing)} adapters were added or changed ({', '.join(missing[:3])}); "
            f"{remedy}"
        )
    places = [known[str(bank.records[name].sha256)] for name in bank.ids]
    return worth[np.ix_(places, places)]
