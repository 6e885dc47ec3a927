"""Figures of a study's results: predictions against what came, and estimates with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lorameta.errors import UsageError
from lorameta.figures.axes import COLOURS, GREY, axes, same_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def calibration(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    level: float | None = None,
    labels: Sequence[str] | None = None,
    quantity: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Return what was predicted against what was observed, with the line on which both agree.

    Parameters
    ----------
    predicted, observed : array of shape (N,)
    lower, upper : array of shape (N,), optional
        Ends of the prediction intervals, in the unit of `predicted`; drawn as horizontal lines. Points outside their
        interval are crosses, and the title says how many are inside.
    level : float, optional
        In (0, 1), what the intervals promise; for the title.
    labels : sequence of N str, optional
        Names for the points outside their interval.
    quantity : str
        What is predicted, for the axes.
    ax : Axes, optional

    Returns
    -------
    Axes
        The first collection holds the points inside (all of them without intervals), the second those outside.

    Raises
    ------
    UsageError, MissingExtraError
    """
    x, y = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (predicted, observed))
    same_length("predictions", len(x), observed=y, lower=lower, upper=upper, labels=labels)
    if (lower is None) != (upper is None):
        raise UsageError("an interval has two ends; give lower and upper, or none")
    inside = np.ones(len(x), dtype=bool)
    ax = axes(ax, (5.2, 5.0))
    if lower is not None and upper is not None:
        low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        inside = (low <= y) & (y <= high)
        ax.hlines(y, low, high, color=GREY, linewidth=0.8, alpha=0.6, zorder=1)
        promised = "" if level is None else f" ({level:.0%} promised)"
        ax.set_title(f"{inside.sum()} of {len(x)} inside their interval{promised}", fontsize=10)
    ax.scatter(x[inside], y[inside], s=24, color=COLOURS[0], zorder=2)
    ax.scatter(x[~inside], y[~inside], s=32, color=COLOURS[1], marker="x", zorder=3)
    if labels is not None:
        for i in np.flatnonzero(~inside).tolist():
            ax.annotate(labels[i], (x[i], y[i]), xytext=(4, 4), textcoords="offset points", fontsize=7)
    ax.axline((float(x.mean()) if len(x) else 0.0,) * 2, slope=1, color="black", linewidth=0.8, linestyle="--")
    ax.set_xlabel(f"predicted {quantity}".strip())
    ax.set_ylabel(f"observed {quantity}".strip())
    return ax


def forest(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    reference: float | None = 0.0,
    reference_label: str = "",
    label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Estimates with their intervals, one line a method, the first at the top.

    Parameters
    ----------
    rows : sequence of (name, estimate, lower, upper)
    reference : float, optional
        Where the vertical line is; None for no line. An interval that contains it is grey, others are coloured.
    reference_label : str
        Written at the line.
    label, title : str
        Of the horizontal axis and of the whole.
    ax : Axes, optional

    Returns
    -------
    Axes
        ``ax.get_yticklabels()`` are the names, and ``ax.containers[i]`` is the i-th estimate with its interval.

    Raises
    ------
    UsageError, MissingExtraError
    """
    if wrong := [f"{name}: {lower:g} ≤ {middle:g} ≤ {upper:g}" for name, middle, lower, upper in rows
                 if not lower <= middle <= upper]:  # fmt: skip
        raise UsageError(f"an estimate lies within its interval, but not here: {'; '.join(wrong)}")
    ax = axes(ax, (7.5, 0.26 * len(rows) + 1.2))
    for i, (_, middle, lower, upper) in enumerate(rows):
        within = reference is not None and lower <= reference <= upper
        ax.errorbar(middle, i, xerr=[[middle - lower], [upper - middle]], fmt="o", markersize=4.5, capsize=2.5,
                    linewidth=1.3, color=GREY if within else COLOURS[0])  # fmt: skip
    if reference is not None:
        ax.axvline(reference, color=COLOURS[1], linewidth=1.0, linestyle="--", zorder=0)
        ax.annotate(reference_label, (reference, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 2),
                    textcoords="offset points", fontsize=8, color=COLOURS[1])  # fmt: skip
    ax.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=9)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="x", linewidth=0.4, alpha=0.6)
    ax.set_xlabel(label)
    ax.set_title(title, pad=16 if reference_label else None)
    return ax
