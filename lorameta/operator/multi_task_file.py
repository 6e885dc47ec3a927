"""Keeping an adapter of all tasks with the bank, and reading it back: ``operators/multi_task.safetensors``."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.adapter import Adapter, licences
from lorameta.adapter.lora import LoraPair
from lorameta.errors import BankError, UsageError
from lorameta.operator import fitted_file

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank

#: What a mixture and its report call it: no id of a bank has a blank.
NAME = "multi-task adapter"


def path_of(bank: AdapterBank) -> Path:
    """Return where the bank keeps it."""
    return bank.path / "operators" / "multi_task.safetensors"


def save(adapter: Adapter, bank: AdapterBank, *, rows: int) -> Path:
    """Keep an adapter that was trained on rows of all tasks with the whole bank, written as a whole.

    Parameters
    ----------
    adapter : Adapter
        A is stored in float32, B in float16.
    bank : AdapterBank
    rows : int
        That it was trained on, of each task.

    Raises
    ------
    UsageError
        The bank is a part of one, or a number is not finite in float16.
    """
    from lorameta import __version__

    if len(bank) != len(bank.manifest.adapters):
        raise UsageError(f"a multi-task adapter is of all {len(bank.manifest.adapters)} tasks of the bank {bank.name}")
    header = {
        "operator": "multi_task", "distance": "any", "content_hash": bank.content_hash, "rows": rows,
        "adapters": [bank.records[name].sha256 for name in bank.ids], "version": __version__,
        "scaling": {module: float(pair.scaling) for module, pair in adapter.modules.items()},
    }  # fmt: skip
    arrays = {f"{module}.A": pair.A.astype(np.float32) for module, pair in adapter.modules.items()}
    with np.errstate(over="ignore"):
        arrays |= {f"{module}.B": pair.B.astype(np.float16) for module, pair in adapter.modules.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UsageError("the multi-task adapter has numbers that are not finite, or too large for float16")
    header["sha256"] = _digest(arrays)
    return fitted_file.save(path_of(bank), header, arrays)


def load(bank: AdapterBank) -> Adapter:
    """Read the multi-task adapter of a bank.

    Raises
    ------
    BankError
        There is none, it is damaged, or it was trained on the task of an adapter that this bank, or this view of it,
        does not have: what was left out must not come in again by it. With the remedy.
    """
    path = path_of(bank)
    remedy = f"train it with: lorameta bank fit {shlex.quote(str(bank.path))} --operator multi_task --tasks FOLDER"
    lacking = f"the bank {bank.name} has no adapter of all its tasks"
    with fitted_file.reading(path, lacking, remedy) as (header, arrays):
        modules = {module: _pair(arrays, module, scaling) for module, scaling in header["scaling"].items()}
        if not modules or len(arrays) != 2 * len(modules):
            raise ValueError("its modules and its arrays do not go together")
        if header["sha256"] != _digest(arrays):
            raise ValueError("its numbers are not those that were written")
        known = {bank.records[name].sha256 for name in bank.ids}
        others = sum(sha256 not in known for sha256 in header["adapters"])
    if others:
        raise BankError(
            f"{path} was trained on the tasks of {others} adapters that were changed or left out here; {remedy}"
        )
    return Adapter(modules, bank.base_model, bank.base_revision, name=NAME)


def provenance(bank: AdapterBank) -> dict[str, Any]:
    """Return what a card must say of it: every licence of the rows behind the bank."""
    records = [bank.records[name].provenance() for name in bank.ids]
    return {
        "task": f"all {len(bank)} tasks of the bank", "family": "", "licence": "",
        "licences": sorted({one.id for record in records for one in licences.of_source(record)}),
        "source": {"repo": f"the sources of all {len(bank)} adapters of the bank {bank.name}"},
    }  # fmt: skip


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the numbers in float32, which holds those of float16: as adapters of a bank have in its index."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(name.encode() + arrays[name].astype("<f4").tobytes())
    return found.hexdigest()


def _pair(arrays: Mapping[str, np.ndarray], module: str, scaling: object) -> LoraPair:
    A, B = (arrays[f"{module}.{half}"].astype(np.float32) for half in "AB")
    if A.ndim != 2 or B.ndim != 2 or len(A) != B.shape[1] or not isinstance(scaling, float):
        raise ValueError(f"the factors of {module} do not go together")
    if not (np.isfinite(A).all() and np.isfinite(B).all() and np.isfinite(scaling)):
        raise ValueError(f"{module} has numbers that are not finite")
    return LoraPair(A, B, scaling)
