"""Inner products of adapters' updates, from which every norm and distance between mixtures follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lorameta.errors import BankError

if TYPE_CHECKING:
    from lorameta.adapter import Adapter

#: Adapters that are held and multiplied at once: at rank 16 and 4,096 inputs a block of A is 34 MB in float64.
BLOCK = 64


def gram(
    adapters: Sequence[Adapter],
    others: Sequence[Adapter] | None = None,
    *,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Gᵢⱼ = Σ over modules of ⟨ΔWᵢ, ΔWⱼ⟩, without forming a d_out × d_in matrix.

    ⟨s B A, s′ B′ A′⟩ = s s′ ⟨Bᵀ B′, A A′ᵀ⟩: two products of r × r′ numbers each. The factors of a block of adapters
    are stacked, so that a module costs two matrix products, (N r)² (d_out + d_in) multiplications in all and half of
    that without `others`, done in tiles of 64 adapters. Two tiles' adapters are alive at once, so a sequence that
    reads an adapter when it is asked for keeps memory bounded, at the price of reading it up to ⌈N / 64⌉ times.

    Parameters
    ----------
    adapters : sequence of Adapter
        N of them. Ranks and scalings may differ; a module that an adapter lacks is a zero update.
    others : sequence of Adapter, optional
        M of them; `adapters` themselves by default.
    progress : callable, optional
        Called with the number of adapters whose rows are done, block by block; N in all.

    Returns
    -------
    numpy.ndarray of shape (N, M), float64
        Without `others` symmetric, positive semidefinite up to rounding, with the squared norms on the diagonal.

    Raises
    ------
    BankError
        Two adapters disagree in the shape of a module; all violations of the first block that has any.
    """
    right = adapters if others is None else others
    result = np.zeros((len(adapters), len(right)))
    shapes: dict[str, tuple[tuple[int, int], str]] = {}
    for rows in _slices(0, len(adapters)):
        left_block = _read(adapters, rows, shapes)
        for columns in _slices(rows.start if others is None else 0, len(right)):
            same = others is None and columns == rows
            right_block = left_block if same else _read(right, columns, shapes)
            result[rows, columns] = _tile(left_block, right_block)
            if others is None and not same:
                result[columns, rows] = result[rows, columns].T
        if progress is not None:
            progress(rows.stop - rows.start)
    # The two halves of a product of a matrix with itself may round differently.
    return (result + result.T) / 2 if others is None else result


def _slices(start: int, stop: int) -> list[slice]:
    return [slice(low, min(low + BLOCK, stop)) for low in range(start, stop, BLOCK)]


def _read(adapters: Sequence[Adapter], place: slice, known: dict[str, tuple[tuple[int, int], str]]) -> list[Adapter]:
    """Some adapters, whose modules must have the shapes that are known by now."""
    block = [adapters[index] for index in range(place.start, place.stop)]
    problems = []
    for adapter in block:
        for module, pair in adapter.modules.items():
            shape, first = known.setdefault(module, (pair.shape, adapter.name))
            if pair.shape != shape:
                problems.append(f"{adapter.name}, {module}: its update is {pair.shape}, that of {first} is {shape}")
    BankError.raise_if(problems, "these adapters do not fit together:", "Compare adapters of one base.")
    return block


def _tile(left: list[Adapter], right: list[Adapter]) -> np.ndarray:
    tile = np.zeros((len(left), len(right)))
    for module in sorted({name for adapter in left for name in adapter.modules}):
        rows = [index for index, adapter in enumerate(left) if module in adapter.modules]
        columns = [index for index, adapter in enumerate(right) if module in adapter.modules]
        if not columns:
            continue
        B, A, starts = _stacked([left[index] for index in rows], module)
        same = left is right
        B_other, A_other, other_starts = (B, A, starts) if same else _stacked([right[i] for i in columns], module)
        products = (B @ B_other.T) * (A @ A_other.T)
        sums = np.add.reduceat(np.add.reduceat(products, starts, axis=0), other_starts, axis=1)
        tile[np.ix_(rows, columns)] += sums
    return tile


def _stacked(adapters: list[Adapter], module: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """sᵢ Bᵢᵀ of all adapters, one below the other, their Aᵢ likewise, and at which row each adapter starts."""
    pairs = [adapter.modules[module] for adapter in adapters]
    B = np.concatenate([pair.scaling * pair.B.T.astype(np.float64) for pair in pairs])
    A = np.concatenate([pair.A for pair in pairs]).astype(np.float64)
    starts = np.cumsum([0] + [pair.rank for pair in pairs[:-1]])
    return B, A, starts
