"""The multi_task operator: a part of one adapter that was trained on all tasks of the bank, the rest a mixture.

No row of the new dataset needs an answer, and no model is run. Text-to-LoRA (arXiv 2506.06105) reports that such an
adapter alone is hard to beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.operator import transfer, transfer_file
from lorameta.operator.context import Context
from lorameta.operator.normalized import normalized

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank


def beside(share: float, rest: np.ndarray) -> np.ndarray:
    """Return the weights of the bank's adapters beside the multi-task adapter.

    Parameters
    ----------
    share : float
        Weight of the multi-task adapter, in [0, 1].
    rest : numpy.ndarray of shape (N,)
        A mixture of the bank's adapters, whose weights sum to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        With `share` they sum to 1.

    Examples
    --------
    >>> beside(0.75, np.array([0.6, 0.4]))
    array([0.15, 0.1 ])
    """
    return (1 - share) * np.asarray(rest, dtype=np.float64)


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the rest's weights, those of ``transfer`` where the bank has what it needs, else those of ``normalized``;
    the share of the multi-task adapter is among the details."""
    share = float(context.options["share"])
    if transfer_file.path_of(context.require_bank()).is_file():
        rest, details = transfer.weigh(context)
    else:
        rest, details = normalized(context.distances, temperature=context.temperature), {}
    return beside(share, rest), {"multi_task": share} | details


def require(bank: AdapterBank, distance: str, options: Mapping[str, Any]) -> None:
    """Raise BankError if the bank has no multi-task adapter, or none without what was left out of it."""
    from lorameta.operator.multi_task_file import load

    load(bank)
    if transfer_file.path_of(bank).is_file():
        transfer.require(bank, distance, options)
