"""Keeping a fitted neural operator with the bank that it belongs to, and reading it back."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import BankError, UsageError
from lorameta.operator import fitted_file
from lorameta.operator.network import shapes
from lorameta.operator.neural import NeuralOperator

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank


@dataclass(frozen=True, eq=False)
class FittedOperator:
    """A neural operator and the bank and distance that it was fitted to.

    Attributes
    ----------
    operator : NeuralOperator
    distance : str
    content_hash : str
        ``AdapterBank.content_hash`` of the bank.
    adapters : int
        N, the size of the bank.
    cross_validated : dict of str to float
        As ``NeuralOperator.errors``, on adapters that were not fitted to; empty in banks too small for it.
    version : str
        Of lorameta.
    """

    operator: NeuralOperator
    distance: str
    content_hash: str
    adapters: int
    cross_validated: dict[str, float] = field(default_factory=dict)
    version: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return all but the parameters, JSON-able."""
        return {
            "operator": "neural",
            "distance": self.distance,
            "width": self.operator.width,
            "adapters": self.adapters,
            "content_hash": self.content_hash,
            "errors": dict(self.operator.errors),
            "cross_validated": dict(self.cross_validated),
            "version": self.version,
        }


def path_of(bank: AdapterBank, distance: str) -> Path:
    """Return where the bank keeps the operator that was fitted for a distance."""
    return bank.path / "operators" / f"neural-{distance}.safetensors"


def save(found: FittedOperator, bank: AdapterBank) -> Path:
    """Keep a fitted operator with its bank: ``operators/neural-<distance>.safetensors``, written as a whole.

    Raises
    ------
    UsageError
        It was fitted to other adapters, or to a part of the bank: whoever opens the whole bank could not use it.
    LorametaError
        The file cannot be written.
    """
    if found.content_hash != bank.content_hash or len(bank) != len(bank.manifest.adapters):
        raise UsageError(
            f"this operator was fitted to {found.adapters} adapters, which are not the "
            f"{len(bank.manifest.adapters)} of the bank {bank.name}; fit it to the whole bank, or pass it on by hand: "
            "operator_options={'fitted': ...}"
        )
    return fitted_file.save(path_of(bank, found.distance), found.as_dict(), found.operator.parameters)


def load(bank: AdapterBank, distance: str) -> FittedOperator:
    """Read the operator that was fitted to a bank for a distance.

    Raises
    ------
    BankError
        There is none, it is damaged, or it was fitted when the bank had other adapters; with the remedy.
    """
    path = path_of(bank, distance)
    remedy = f"fit it with: lorameta bank fit {shlex.quote(str(bank.path))} --distance {distance}"
    lacking = f"the bank {bank.name} has no neural operator for the distance {distance!r}"
    with fitted_file.reading(path, lacking, remedy) as (header, parameters):
        if {name: value.shape for name, value in parameters.items()} != shapes(int(header["width"])):
            raise ValueError("its arrays are not those of such a network")
        if header["distance"] != distance or not all(np.isfinite(value).all() for value in parameters.values()):
            raise ValueError("it is of another distance, or holds numbers that are not finite")
        if not all(isinstance(value, float) for value in {**header["errors"], **header["cross_validated"]}.values()):
            raise ValueError("its errors are no numbers by name")
        operator = NeuralOperator(parameters, header["errors"])
        found = FittedOperator(
            operator, distance, header["content_hash"], header["adapters"], header["cross_validated"], header["version"]
        )
    if found.content_hash != bank.content_hash:
        raise BankError(
            f"{path} was fitted to {found.adapters} adapters that are not the {len(bank)} of this bank: some were "
            f"added, changed or left out since; {remedy}"
        )
    return found
