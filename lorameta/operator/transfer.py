"""The transfer operator: weights from what the adapters were worth to the bank's other tasks, and from distances.

No row of the new dataset needs an answer, and no model is run: the worth of every adapter to every task was measured
once, when the operator was fitted (`lorameta.mixing.transfer_fit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import UsageError
from lorameta.operator.context import Context
from lorameta.operator.normalized import normalized, standardised

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank

#: Price of the squared slope, in pairs of a task and an adapter.
RIDGE = 10.0


def predicted_worth(
    worth: np.ndarray, distance_matrix: np.ndarray, distances: np.ndarray, *, ridge: float = RIDGE
) -> tuple[np.ndarray, float]:
    """Predict what each adapter is worth to a new dataset: μⱼ + β zⱼ.

    μⱼ is the mean over the other tasks of the standardised worth of adapter j, z the standardised distances, and β the
    least-squares slope of what μ leaves open on the standardised distances within the bank, shrunk by a ridge.

    Parameters
    ----------
    worth : numpy.ndarray of shape (N, N)
        Row i: of each adapter to task i, in any unit; the higher, the better. The diagonal is not used.
    distance_matrix : numpy.ndarray of shape (N, N)
        Row i: from the dataset of task i to all. The diagonal is not used.
    distances : numpy.ndarray of shape (N,)
        From the new dataset to all, by the same distance.
    ridge : float
        Not negative.

    Returns
    -------
    predicted : numpy.ndarray of shape (N,), float64
        In standard deviations over the bank.
    slope : float
        β; negative where what is near is worth more.

    Raises
    ------
    UsageError
        Fewer than three adapters, or shapes that do not fit.

    Examples
    --------
    >>> near = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [1.0, 2.0, 0.0]])
    >>> predicted, slope = predicted_worth(-near, near, np.array([0.1, 0.5, 0.9]))
    >>> int(predicted.argmax()), slope < 0
    (0, True)
    """
    n = len(distances)
    if n < 3 or worth.shape != (n, n) or distance_matrix.shape != (n, n):
        raise UsageError(
            f"worth {worth.shape} and distances {distance_matrix.shape} within the bank must be square, of the "
            f"{n} adapters that the dataset has distances to, and three at least"
        )
    values, near = standardised_rows(worth), standardised_rows(distance_matrix)
    mean = np.nanmean(values, axis=0)
    others = ~np.eye(n, dtype=bool)
    x, y = near[others], (values - mean)[others]
    squares = float(x @ x) + ridge
    slope = float(x @ y) / squares if squares else 0.0
    return mean + slope * standardised(distances), slope


def standardised_rows(matrix: np.ndarray) -> np.ndarray:
    """Each row of (N, N) with mean 0 and standard deviation 1 off the diagonal, which is NaN; 0 where all are equal."""
    found = np.full(matrix.shape, np.nan)
    for row, mask in enumerate(~np.eye(len(matrix), dtype=bool)):
        found[row, mask] = standardised(matrix[row, mask])
    return found


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by softmin of minus the standardised prediction."""
    from lorameta.distance import distance_matrix
    from lorameta.operator.transfer_file import load

    bank = context.require_bank()
    within = distance_matrix(bank.summaries, context.distance)
    found, slope = predicted_worth(load(bank), within, context.distances)
    return normalized(-found, temperature=context.temperature), {"slope_on_distance": round(slope, 4)}


def require(bank: AdapterBank, distance: str, options: Mapping[str, Any]) -> None:
    """Raise BankError if the bank has no worth of its adapters."""
    from lorameta.operator.transfer_file import load

    load(bank)
