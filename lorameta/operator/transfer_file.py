"""Keeping the worth of a bank's adapters with the bank, and reading it back: ``operators/transfer.safetensors``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorameta.errors import BankError, UsageError
from lorameta.files import json_text
from lorameta.files.atomic import write_file

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank

FORMAT = 1
_KEY = "lorameta"


def path_of(bank: AdapterBank) -> Path:
    """Where the bank keeps it."""
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
    from safetensors.numpy import save as encode

    from lorameta import __version__

    n = len(bank.manifest.adapters)
    if len(bank) != n or worth.shape != (n, n) or not np.isfinite(worth).all():
        raise UsageError(f"the worth must be finite numbers of all {n} adapters of the bank; got {worth.shape}")
    header = {
        "format": FORMAT, "operator": "transfer", "distance": "any", "content_hash": bank.content_hash, "rows": rows,
        "adapters": [bank.records[name].sha256 for name in bank.ids], "version": __version__,
    }  # fmt: skip
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    return write_file(path_of(bank), encode({"worth": np.ascontiguousarray(worth, dtype=np.float32)}, {_KEY: text}))


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
    from safetensors import SafetensorError, safe_open

    path = path_of(bank)
    remedy = f"measure it with: lorameta bank fit {shlex.quote(str(bank.path))} --operator transfer --tasks FOLDER"
    if not path.is_file():
        raise BankError(f"the bank {bank.name} does not say what its adapters are worth to other tasks; {remedy}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json_text.decode((file.metadata() or {})[_KEY])
            worth = file.get_tensor("worth").astype(np.float64)
        known = {str(sha256): place for place, sha256 in enumerate(header["adapters"])}
        if header["format"] != FORMAT or worth.shape != (len(known), len(known)) or not np.isfinite(worth).all():
            raise ValueError("its format, its size or its numbers are not those that this version of lorameta writes")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise BankError(f"{path} is damaged ({error}); {remedy}") from error
    missing = [name for name in bank.ids if bank.records[name].sha256 not in known]
    if missing:
        raise BankError(
            f"{path} was measured before {len(missing)} adapters were added or changed ({', '.join(missing[:3])}); "
            f"{remedy}"
        )
    places = [known[str(bank.records[name].sha256)] for name in bank.ids]
    return worth[np.ix_(places, places)]
