"""Measuring what every adapter of a bank is worth to its tasks; `lorameta.operator.transfer_file` keeps it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lorameta.errors import UsageError
from lorameta.operator.context import Context
from lorameta.operator.gradient import slopes

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.base_model.load import Base
    from lorameta.data import Example

#: Rows per task.
ROWS = 12


def measure(
    bank: AdapterBank,
    rows: Mapping[str, Sequence[Example]],
    *,
    base: Base | None = None,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Measure the worth of each adapter to each task: how steeply the loss falls towards it at the uniform mixture.

    One backward pass over the rows of a task, at the average of all adapters but the task's own; see
    :func:`lorameta.operator.gradient.slopes`. All adapters are in memory.

    Parameters
    ----------
    bank : AdapterBank
        Three adapters or more.
    rows : mapping of str to sequence of Example
        By adapter, rows of its task that it was not trained on, with outputs; :data:`ROWS` of them are enough.
    base : Base, optional
        The bank's base, if it is in memory already.
    progress : callable, optional
        Called with 1 after each task.

    Returns
    -------
    numpy.ndarray of shape (N, N), float64
        Row i: minus the slope per unit of ‖ΔWⱼ‖, nats per token; 0 for an adapter that is 0.

    Raises
    ------
    UsageError
        A bank of fewer than three adapters, or an adapter without rows.
    """
    if len(bank) < 3:
        raise UsageError(f"the operator 'transfer' needs three adapters or more; the bank has {len(bank)}")
    if missing := [name for name in bank.ids if not rows.get(name)]:
        raise UsageError(f"there are no rows of {len(missing)} tasks: {', '.join(missing[:5])}")
    context = Context(np.zeros(len(bank)), bank=bank, loaded=base)
    adapters = context.adapters(range(len(bank)))
    norms = np.array([adapter.norm() for adapter in adapters])
    found = np.zeros((len(bank), len(bank)))
    for place, name in enumerate(bank.ids):
        found[place] = of_task(context.base, adapters, norms, rows[name], place)
        if progress is not None:
            progress(1)
    return found


def of_task(
    base: Base, adapters: Sequence[Adapter], norms: np.ndarray, rows: Sequence[Example], own: int
) -> np.ndarray:
    """Worth of each adapter, of these norms, to one task, whose own adapter is at the place `own`: shape (N,)."""
    centre = np.full(len(adapters), 1 / (len(adapters) - 1))
    centre[own] = 0.0
    slope = slopes(base, adapters, rows[:ROWS], centre)
    return -np.divide(slope, norms, out=np.zeros(len(norms)), where=norms > 0)
