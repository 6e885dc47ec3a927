"""An adapter in memory: low-rank updates by module, where they come from, and the PEFT directory they are kept in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.adapter import metadata, peft_format
from lorameta.adapter.lora import LoraPair, layout
from lorameta.errors import BankError, LorametaWarning, UsageError, violations
from lorameta.files import tensors
from lorameta.files.atomic import restore, write_directory
from lorameta.files.links import is_directory, user_path

__all__ = ["Adapter", "LoraPair"]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter: a member of a bank, or what was made out of several.

    Attributes
    ----------
    modules : mapping of str to LoraPair
        By module path in the base, e.g. ``model.layers.0.self_attn.q_proj``; sorted. Of an adapter from
        :meth:`lorameta.bank.AdapterBank.lazy`, a pair is read whenever it is asked for.
    base_model : str
        What ``AutoModelForCausalLM.from_pretrained`` takes: a Hub id or a directory.
    base_revision : str or None
        Revision of a base on the Hub.
    weights : dict of str to float
        Mixing weights by id of the mixed adapter; empty for a member of a bank.
    report : dict
        JSON-able account of how it was made: distances, weights, truncation error per module, ...
    name : str
        Id in its bank, or the directory it was read from; what messages call it.
    """

    modules: Mapping[str, LoraPair]
    base_model: str
    base_revision: str | None = None
    weights: dict[str, float] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.modules, dict):  # else they are read from a file when asked for, and sorted already
            object.__setattr__(self, "modules", dict(sorted(self.modules.items())))

    @property
    def rank(self) -> int:
        """Largest rank among the modules; 0 if there are none."""
        return max((rank for rank, _, _, _ in layout(self.modules).values()), default=0)

    @property
    def num_parameters(self) -> int:
        """Numbers in all A and B."""
        return sum(rank * (d_out + d_in) for rank, d_out, d_in, _ in layout(self.modules).values())

    def norm(self) -> float:
        """Frobenius norm of the whole update, over all modules."""
        return float(np.sqrt(sum(pair.norm() ** 2 for pair in self.modules.values())))

    def is_zero(self) -> bool:
        """Check whether the update is zero: nothing was trained, or it was not saved."""
        return not any(pair.A.any() and pair.B.any() for pair in self.modules.values())

    def warn_if_zero(self, what: str) -> None:
        """Warn if the update is zero; `what` is what messages call the adapter."""
        if self.is_zero():
            message = (
                f"the update of {what} is zero: it changes nothing about its base; an adapter is so before it is "
                "trained, or when its training was not saved"
            )
            warnings.warn(message, LorametaWarning, stacklevel=3)

    def save_pretrained(
        self, directory: str | os.PathLike[str], *, card: str | None = None, dtype: str | None = None
    ) -> Path:
        """Write a PEFT directory that ``PeftModel.from_pretrained`` loads without lorameta.

        The scaling is folded into B (``lora_alpha = r``, no patterns); modules of smaller rank are padded with zeros.
        The directory is written beside its place and moved into it: a crash leaves the old one whole. The same
        adapter gives the same bytes.

        Parameters
        ----------
        directory : path
            New, empty, or written here before.
        card : str, optional
            Content of ``README.md``; by default that of :func:`lorameta.adapter.card.card`.
        dtype : {"float32", "bfloat16"}, optional
            float32 by default; bfloat16 halves the file and rounds to 8 bits.

        Returns
        -------
        Path
            The directory, absolute.

        Raises
        ------
        UsageError
            The adapter has no modules or numbers that are not finite, `dtype` is unknown, or the directory holds
            other files.
        LorametaError
            The directory cannot be written.
        """
        if not self.modules:
            raise UsageError("the adapter has no modules, so there is nothing to save")
        from lorameta.adapter.card import card as adapter_card

        arrays = peft_format.weight_arrays(self.modules)
        data = tensors.to_bytes(arrays, dtype=dtype or "float32")
        problems: list[str] = []
        tensors.from_bytes(data, problems)
        UsageError.raise_if(problems, f"the adapter cannot be saved as {dtype or 'float32'}:")
        files = {
            peft_format.CONFIG: peft_format.config_bytes(self.modules, self.base_model, self.base_revision),
            peft_format.WEIGHTS: data,
            peft_format.CARD: (adapter_card(self) if card is None else card).encode(),
        }
        if (more := metadata.metadata_bytes(self.report)) is not None:
            files[metadata.FILE] = more
        return write_directory(directory, files, also=(metadata.FILE,))

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> Adapter:
        """Read a PEFT LoRA directory, made by whatever tool.

        ``rank_pattern``, ``alpha_pattern`` and ``use_rslora`` are resolved as PEFT does; each module carries its own
        scaling. Weights become float32.

        Raises
        ------
        BankError
            With everything that is wrong: missing, truncated or foreign files, NaN, halves without the other,
            shapes that do not fit the rank, and variants that are not plain LoRA.
        """
        path = user_path(directory)
        restore(path)
        if not is_directory(path):
            raise BankError(f"there is no directory {path}; give the directory that holds {peft_format.CONFIG}")
        for _ in range(5):  # both files must be of one directory, also while another process replaces it
            problems: list[str] = []
            before = _identity(path)
            found = peft_format.read_directory(path, problems)
            if before == _identity(path):
                break
        if problems or found.settings is None:
            raise BankError(violations(problems, f"the adapter in {path} cannot be used:"))
        said = found.settings
        report = metadata.read_metadata(path)
        return cls(found.modules, said.base_model, said.base_revision, report=report, name=path.name)


def _identity(directory: Path) -> tuple[int, int] | None:
    """Return what tells a directory from the one that takes its place; None where there is none."""
    try:
        state = directory.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
