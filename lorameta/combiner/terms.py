"""`Terms`: what the sum Σ wᵢ sᵢ Bᵢ Aᵢ of one module is made of, read when it is asked for and in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from lorameta.adapter.lora import LoraPair, layout
from lorameta.files.tensors import widen

if TYPE_CHECKING:
    from lorameta.files.tensor_file import TensorFile

#: (start, stop, shard, row): these terms are the rows from `row` on of a shard; without a shard it is one term.
Span = tuple[int, int, "TensorFile | None", int]
#: Bytes of stored numbers that are held at once by each thread, as float32 twice that for the 16-bit formats.
BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class ShardSlice:
    """Neighbouring terms that are neighbouring rows of one shard: ``rows`` of it are the terms from ``start`` on."""

    start: int
    rows: slice
    shard: TensorFile
    module: str

    def blocks(self, half: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield a tensor of the slice, ``lora_A`` or ``lora_B`` (transposed), as it is stored, some rows at a time.

        Yields
        ------
        terms : slice
        bits : numpy.ndarray of shape (m, r, d)
            A view of the mapped file, which is let go when the next is asked for: what is mapped counts as memory.
        """
        name = f"{self.module}.{half}"
        # Both halves in the same steps, so that they can be read side by side.
        entries = [self.shard.entries[f"{self.module}.{part}"] for part in ("lora_A", "lora_B")]
        step = max(1, BLOCK_BYTES // max(1, *((entry.stop - entry.start) // entry.shape[0] for entry in entries)))
        for low in range(self.rows.start, self.rows.stop, step):
            rows = slice(low, min(low + step, self.rows.stop))
            first = self.start + low - self.rows.start
            yield slice(first, first + rows.stop - rows.start), self.shard.raw(name, rows)
            self.shard.forget(name, rows)

    def dtype(self, half: str) -> str:
        """``BF16``, ``F16`` or ``F32``."""
        return self.shard.entries[f"{self.module}.{half}"].dtype


class Terms(Sequence[LoraPair]):
    """The low-rank updates of one module, one an adapter that has it; ranks and scalings are known without reading.

    Attributes
    ----------
    ranks : tuple of int
    scalings : tuple of float
    shape : tuple of int
        (d_out, d_in).
    """

    def __init__(
        self,
        adapters: Sequence[Mapping[str, LoraPair]],
        module: str,
        facts: Sequence[tuple[int, int, int, float]],
        spans: Sequence[Span],
    ) -> None:
        self._adapters, self._module, self._spans = adapters, module, spans
        self.ranks, _, _, self.scalings = zip(*facts, strict=True)
        self.shape: tuple[int, int] = facts[0][1:3]

    @classmethod
    def of(cls, pairs: Sequence[LoraPair]) -> Terms:
        """Of pairs in memory, of one shape; what is `Terms` already is given back."""
        return pairs if isinstance(pairs, Terms) else MixedAdapters([{"": pair} for pair in pairs]).terms("")

    @property
    def summed_rank(self) -> int:
        """K = Σ rᵢ: the rank of the sum at most."""
        return sum(self.ranks)

    def factors(self, weights: np.ndarray) -> np.ndarray:
        """wᵢ sᵢ of every one of the K rank-one terms, float64 of shape (K,)."""
        return np.repeat(np.asarray(weights, dtype=np.float64) * self.scalings, self.ranks)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield the factors of all terms, some at a time.

        Yields
        ------
        place : slice
            Which of the K rank-one terms these are.
        Bt : numpy.ndarray of shape (k, d_out), float32
            Transposed Bᵢ, one below the other.
        A : numpy.ndarray of shape (k, d_in), float32
        """
        ends = np.concatenate([[0], np.cumsum(self.ranks)])
        for part in self.parts():
            if isinstance(part, ShardSlice):
                for (terms, A), (_, Bt) in zip(part.blocks("lora_A"), part.blocks("lora_B"), strict=True):
                    both = [(Bt, part.dtype("lora_B")), (A, part.dtype("lora_A"))]
                    Bt, A = (widen(bits, kind).reshape(-1, bits.shape[2]) for bits, kind in both)
                    yield slice(ends[terms.start], ends[terms.stop]), Bt, A
            else:
                pair = self[part]
                yield slice(ends[part], ends[part + 1]), pair.B.T, pair.A

    def parts(self) -> Iterator[ShardSlice | int]:
        """Yield the terms in order: as slices of a shard's rows where they are neighbours there, else one by one."""
        for start, stop, shard, row in self._spans:
            if shard is None:
                yield start
            else:
                yield ShardSlice(start, slice(row, row + stop - start), shard, self._module)

    @overload
    def __getitem__(self, index: int) -> LoraPair: ...
    @overload
    def __getitem__(self, index: slice) -> list[LoraPair]: ...
    def __getitem__(self, index: int | slice) -> LoraPair | list[LoraPair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._adapters[index][self._module]

    def __len__(self) -> int:
        return len(self._adapters)


class MixedAdapters:
    """The adapters of a mixture. What they have in common is found once, and not again for each module.

    Parameters
    ----------
    adapters : sequence of mappings of str to LoraPair
        The ``modules`` of the adapters: in memory, or read from a bank when they are asked for.

    Attributes
    ----------
    layouts : list of dict
        The different ones among the adapters: module to (rank, d_out, d_in, scaling).
    kinds : list of int
        Which of these each adapter has.
    modules : list of str
        That any of the adapters has, sorted.
    """

    def __init__(self, adapters: Sequence[Mapping[str, LoraPair]]) -> None:
        self.adapters = adapters
        self.layouts: list[Mapping[str, tuple[int, int, int, float]]] = []
        self.kinds: list[int] = []
        for modules in adapters:
            found = layout(modules)
            if found not in self.layouts:
                self.layouts.append(found)
            self.kinds.append(self.layouts.index(found))
        self.modules = sorted({module for found in self.layouts for module in found})
        self._spans: dict[tuple[int, ...], tuple[list[int], list[Span]]] = {}
        for module in self.modules:
            self._members(module)  # here, and not in the threads that ask for terms

    def having(self, module: str) -> list[int]:
        """Return which adapters have a module."""
        return self._members(module)[0]

    def terms(self, module: str) -> Terms:
        """Return what the sum of one module is made of."""
        having, spans = self._members(module)
        facts = [self.layouts[self.kinds[index]][module] for index in having]
        return Terms([self.adapters[index] for index in having], module, facts, spans)

    def _members(self, module: str) -> tuple[list[int], list[Span]]:
        kinds = tuple(kind for kind, found in enumerate(self.layouts) if module in found)
        if kinds not in self._spans:
            having = [index for index, kind in enumerate(self.kinds) if kind in kinds]
            self._spans[kinds] = having, _spans([self.adapters[index] for index in having])
        return self._spans[kinds]


def _spans(adapters: Sequence[Mapping[str, LoraPair]]) -> list[Span]:
    found: list[Span] = []
    for index, modules in enumerate(adapters):
        shard, row = getattr(modules, "shard", None), getattr(modules, "row", None) or 0
        if found and shard is not None:
            start, stop, other, first = found[-1]
            if other is shard and row == first + stop - start:
                found[-1] = start, index + 1, shard, first
                continue
        found.append((index, index + 1, shard, row))
    return found
