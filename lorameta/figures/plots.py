"""Figures that notebooks and benchmarks share. matplotlib, of the extra ``plot``, is imported when one is drawn.

Colours are those of Okabe and Ito and the map cividis, which also colour-blind people tell apart; groups differ in the
shape of their marker as well. All functions draw with pyplot, so that a notebook shows what they return.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import UsageError
from lorameta.figures.axes import COLOURS, MARKERS, axes, pyplot, same_length
from lorameta.figures.estimates import calibration, forest
from lorameta.figures.mds import classical_mds, square

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bank_map", "calibration", "cluster_order", "forest", "heatmap", "weight_bars"]


def cluster_order(matrix: np.ndarray) -> np.ndarray:
    """Return an order of rows in which near ones are neighbours: average linkage, with scipy's optimal ordering of the
    leaves.

    Parameters
    ----------
    matrix : numpy.ndarray of shape (N, N)
        Distances; an asymmetric matrix counts as (D + Dᵀ) / 2, and the diagonal as 0.

    Returns
    -------
    numpy.ndarray of shape (N,), int64
        A permutation.
    """
    matrix = square(matrix)
    if len(matrix) < 3:
        return np.arange(len(matrix))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    symmetric = (matrix + matrix.T) / 2
    np.fill_diagonal(symmetric, 0.0)
    tree = linkage(squareform(symmetric, checks=False), "average", optimal_ordering=True)
    return np.asarray(leaves_list(tree), dtype=np.int64)


def heatmap(
    matrix: np.ndarray,
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    order: str | None = None,
    diagonal: bool = False,
    annotate: str | None = None,
    title: str = "",
    colour_label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Return a square matrix as coloured cells, row i the i-th dataset as target.

    Parameters
    ----------
    matrix : numpy.ndarray of shape (N, N)
    labels : sequence of N str
    groups : sequence of N str, optional
        Lines are drawn between them, and their names stand on the right.
    order : {"group", "cluster", "given"}, optional
        ``group`` sorts by group and then label; the default where groups are given. ``cluster``, the default
        otherwise, is :func:`cluster_order`.
    diagonal : bool
        Whether to draw the diagonal. Without it, it stays white and does not stretch the scale of colours.
    annotate : str, optional
        Format of the number written into each cell, e.g. ``".2f"``.
    title, colour_label : str
    ax : Axes, optional
        By default on a figure that is as large as the labels need.

    Returns
    -------
    Axes
        ``ax.images[0]`` holds the cells in the drawn order, ``ax.get_yticklabels()`` the labels.

    Raises
    ------
    UsageError, MissingExtraError
    """
    matrix = square(matrix)
    same_length("matrix rows", len(matrix), labels=labels, groups=groups)
    order = order or ("group" if groups is not None else "cluster")
    if order not in ("group", "cluster", "given") or (order == "group" and groups is None):
        raise UsageError(f"unknown order {order!r}: 'group' (with groups), 'cluster' or 'given'")
    if order == "group" and groups is not None:
        index = np.array(sorted(range(len(labels)), key=lambda i: (groups[i], labels[i])), dtype=np.int64)
    else:
        index = cluster_order(matrix) if order == "cluster" else np.arange(len(matrix))
    cells = matrix[np.ix_(index, index)]
    if not diagonal:
        np.fill_diagonal(cells, np.nan)
    size = (0.155 if annotate is None else 0.46) * len(labels) + 1.5
    ax = axes(ax, (max(size, 3.5) + 1.5, max(size, 3.5)))
    image = ax.imshow(cells, cmap="cividis", interpolation="nearest", aspect="equal")
    ticks, names = range(len(labels)), [labels[i] for i in index]
    ax.set_yticks(ticks, names, fontsize=8)
    ax.set_xticks(ticks, names, fontsize=8, rotation=90)
    ax.tick_params(length=0)
    if order == "group" and groups is not None:
        _group_lines(ax, [groups[i] for i in index])
    if annotate is not None:
        low, high = np.nanmin(cells), np.nanmax(cells)
        for (row, column), value in np.ndenumerate(cells):
            if not math.isnan(value):
                dark = value < (low + high) / 2
                ax.text(column, row, format(value, annotate), ha="center", va="center", fontsize=8,
                        color="white" if dark else "black")  # fmt: skip
    pad = 0.13 if order == "group" else 0.02
    ax.figure.colorbar(image, ax=ax, label=colour_label, fraction=0.03, pad=pad, shrink=0.6)
    ax.set_title(title)
    return ax


def bank_map(
    distance_matrix: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Return the bank as points in the plane, by classical multidimensional scaling.

    Parameters
    ----------
    distance_matrix : numpy.ndarray of shape (N, N)
        At least 0; see :func:`lorameta.figures.mds.classical_mds`.
    labels : sequence of N str
        Written beside the points where there is room.
    groups : sequence of N str, optional
        Colour and marker.
    title : str
    ax : Axes, optional

    Returns
    -------
    Axes
        One collection a group, in alphabetical order; its label is the group's name. The label of the horizontal axis
        says which share of the distances two axes carry.

    Raises
    ------
    UsageError, MissingExtraError
    """
    points, share = classical_mds(distance_matrix, min(2, len(distance_matrix)))
    same_length("points", len(points), labels=labels, groups=groups)
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    kinds = list(groups) if groups is not None else ["all"] * len(labels)
    ax = axes(ax, (11.0, 8.0))
    for k, kind in enumerate(sorted(set(kinds))):
        members = np.array([i for i, name in enumerate(kinds) if name == kind])
        # 7 colours and 9 markers have no common divisor: 63 groups look different.
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        x, y = points[members].T
        ax.scatter(x, y, s=38, color=colour, marker=marker, label=kind, linewidths=0, alpha=0.9)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel(f"two axes of classical scaling ({share:.0%} of what the distances span)")
    ax.set_title(title)
    if groups is not None:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    _write_beside(ax, points, labels)
    return ax


def weight_bars(
    mixtures: Mapping[tuple[str, str], Mapping[str, float]],
    *,
    ids: Sequence[str] | None = None,
    title: str = "",
    name: int = 3,
) -> Figure:
    """Mixing weights of one dataset by distance (rows) and operator (columns), as in figure 1 of arXiv 2507.01806.

    Parameters
    ----------
    mixtures : mapping of (distance, operator) to mapping of adapter id to weight
        The inner mapping is ``Adapter.weights``; what is missing in it counts as 0. Weights may be negative.
    ids : sequence of str, optional
        The order of the adapters on the horizontal axis, the same everywhere; sorted by default.
    title : str
    name : int
        How many of the largest weights (by size) are named in each panel.

    Returns
    -------
    Figure
        Its axes come row by row, in the order in which distances and operators first occur; a pair that is missing
        leaves its place empty. Each panel's title is the effective number (Σ|w|)² / Σw².

    Raises
    ------
    UsageError, MissingExtraError
    """
    if not mixtures:
        raise UsageError("there is no mixture to draw")
    rows = list(dict.fromkeys(distance for distance, _ in mixtures))
    columns = list(dict.fromkeys(operator for _, operator in mixtures))
    found = {adapter for weights in mixtures.values() for adapter in weights}
    ids = sorted(found) if ids is None else list(ids)
    if unknown := sorted(found - set(ids)):
        raise UsageError(f"these adapters have weights and no place among the ids: {', '.join(unknown)}")
    figure, grid = pyplot().subplots(
        len(rows), len(columns), figsize=(2.9 * len(columns) + 0.6, 1.55 * len(rows) + 0.7), squeeze=False,
        sharex=True, layout="constrained",
    )  # fmt: skip
    for ax, pair in zip(grid.flat, ((row, column) for row in rows for column in columns), strict=True):
        if pair in mixtures:
            _weights(ax, np.array([float(mixtures[pair].get(adapter, 0.0)) for adapter in ids]), ids, name)
        else:
            ax.set_visible(False)
    for i, distance in enumerate(rows):
        grid[i, 0].set_ylabel(distance)
    for j, operator in enumerate(columns):
        heading = grid[0, j].get_title()
        grid[0, j].set_title(f"{operator}\n{heading}" if heading else operator, fontsize=9)
    figure.supxlabel(f"the {len(ids)} adapters, in the same order everywhere", fontsize=9)
    figure.suptitle(title)
    return figure


def _group_lines(ax: Axes, groups: Sequence[str]) -> None:
    """Lines between blocks of equal neighbours, and the blocks' names on the right."""
    starts = [i for i in range(len(groups)) if i == 0 or groups[i] != groups[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(groups)], strict=True):
        ax.text(len(groups) + 0.3, (start + end - 1) / 2, groups[start], va="center", fontsize=8)
        if start:
            ax.axhline(start - 0.5, color="white", linewidth=0.8)
            ax.axvline(start - 0.5, color="white", linewidth=0.8)


def _weights(ax: Axes, weights: np.ndarray, ids: Sequence[str], name: int) -> None:
    ax.bar(range(len(ids)), weights, width=0.9, color=np.where(weights < 0, COLOURS[1], COLOURS[0]))
    ax.margins(x=0.01, y=0.6)
    ax.set_xticks([])
    ax.tick_params(labelsize=7)
    square_sum = float(np.square(weights).sum())
    if square_sum > 0:
        ax.set_title(f"effective number {np.abs(weights).sum() ** 2 / square_sum:.1f}", fontsize=8)
    # Names of neighbours would lie upon each other, so they are listed in the panel's corner.
    largest = [i for i in np.lexsort((np.arange(len(ids)), -np.abs(weights)))[:name] if abs(weights[i]) >= 0.005]
    ax.text(0.985, 0.95, "\n".join(f"{ids[i]} {weights[i]:.2f}" for i in largest), transform=ax.transAxes, ha="right",
            va="top", fontsize=6.5, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1})  # fmt: skip


def _write_beside(ax: Axes, points: np.ndarray, labels: Sequence[str], fontsize: float = 6.5) -> None:
    """Each label at that side of its point where it covers least of what is there already, or nowhere."""
    figure = ax.figure
    figure.canvas.draw()  # settles the layout, and with it where a point is
    pixels, unit = ax.transData.transform(points), figure.dpi / 72.0
    taken = [(x - 3 * unit, y - 3 * unit, x + 3 * unit, y + 3 * unit) for x, y in pixels]
    for label, (x, y), point in zip(labels, pixels, points, strict=True):
        width, height = 0.56 * fontsize * len(label) * unit, 1.1 * fontsize * unit
        best: tuple[float, Any, Any] | None = None
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            left, below = x + dx * 5 * unit - (1 - dx) / 2 * width, y + dy * 5 * unit - (1 - dy) / 2 * height
            box = (left, below, left + width, below + height)
            covered = sum(_overlap(box, other) for other in taken)
            if best is None or covered < best[0]:
                best = covered, box, (dx, dy)
        if best is not None and best[0] < 0.25 * width * height:
            taken.append(best[1])
            dx, dy = best[2]
            ax.annotate(label, point, xytext=(dx * 5, dy * 5), textcoords="offset points", fontsize=fontsize,
                        ha=("right", "center", "left")[dx + 1], va=("top", "center", "bottom")[dy + 1],
                        color="#303030")  # fmt: skip


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
