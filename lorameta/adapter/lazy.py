"""`LazyModules`: the modules of an adapter that stays in its file; a pair is read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.adapter.peft_format import Halves
from lorameta.errors import BankError
from lorameta.files import tensors
from lorameta.files.tensor_file import TensorFile

#: Module → (rank, d_out, d_in, scaling).
Layout = Mapping[str, tuple[int, int, int, float]]


class LazyModules(Mapping[str, LoraPair]):
    """Module → pair, read at each access and not kept; ranks and shapes are known without reading.

    Several threads may read. It is pickled as the path of its file.

    Parameters
    ----------
    file : TensorFile
        A PEFT file, or a shard of a stacked bank.
    halves : mapping of str to Halves
        The tensors of each module, sorted by module; their names are those in `file`.
    row : int, optional
        The adapter's row in a shard, where B lies transposed; None for a PEFT file.

    Attributes
    ----------
    file : TensorFile
    shard : TensorFile or None
        The file if it is a shard.
    row : int or None
    halves : mapping of str to Halves
    layout : mapping of str to tuple
        (rank, d_out, d_in, scaling) of each module.
    """

    def __init__(self, file: TensorFile, halves: Mapping[str, Halves], row: int | None = None) -> None:
        self.file, self.halves, self.row = file, halves, row
        self.layout: Layout = {module: (one.rank, one.d_out, one.d_in, one.scaling) for module, one in halves.items()}

    @property
    def shard(self) -> TensorFile | None:
        """The shard that the adapter is a row of; None if it has a file of its own."""
        return None if self.row is None else self.file

    def __getitem__(self, module: str) -> LoraPair:
        one = self.halves[module]
        A, B = (self._read(name) for name in (one.A, one.B))
        return LoraPair(A, B, one.scaling)

    def __iter__(self) -> Iterator[str]:
        return iter(self.halves)

    def __len__(self) -> int:
        return len(self.halves)

    def __contains__(self, module: object) -> bool:
        return module in self.halves

    def __repr__(self) -> str:
        where = "" if self.row is None else f"row {self.row} of "
        return f"<LazyModules: {len(self)} modules in {where}{self.file.path}>"

    def rows(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Yield what a shard holds of this adapter, tensor by tensor in the order of the names.

        Yields
        ------
        name : str
            ``<module>.lora_A`` or ``<module>.lora_B``.
        dtype : str
            ``BF16``, ``F16`` or ``F32``.
        bits : numpy.ndarray of shape (r, d_in) or (r, d_out)
            B is transposed. As stored, bfloat16 by its bits; float64 is rounded to float32.
        """
        for name, source in sorted(stacked_names(self.halves).items()):
            bits, code = self.file.bits(source, self.row), self.file.entries[source].dtype
            if code == "F64":
                bits, code = tensors.narrow(bits, "F32"), "F32"
            transposed = self.row is None and name.endswith(".lora_B")
            yield name, code, np.ascontiguousarray(bits.T) if transposed else bits

    def _read(self, name: str) -> np.ndarray:
        """One half as float32. B is C-ordered wherever it lies: the last bits of a product may depend on that."""
        bits = self.file.bits(name, self.row)
        if self.row is not None and name.endswith(".lora_B"):
            bits = tensors.transposed(bits)
        numbers = tensors.widen(bits, self.file.entries[name].dtype)
        if problem := tensors.not_finite(numbers):
            raise BankError(f"{self.file.path}: {name} {problem}")
        return numbers


def stacked_names(halves: Mapping[str, Halves]) -> dict[str, str]:
    """Return the names that tensors have in a shard → those that `halves` knows them by."""
    return {f"{module}.lora_{half}": getattr(one, half) for module, one in halves.items() for half in "AB"}
