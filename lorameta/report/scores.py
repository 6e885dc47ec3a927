"""Scores of several models on the same rows, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lorameta.report.table import bar, table

if TYPE_CHECKING:
    from lorameta.evaluate import Scores

COLUMNS = {"exact_match": "exact match", "rouge_l": "ROUGE-L", "loss": "loss per token"}


def scores_table(scores: Mapping[str, Scores]) -> str:
    """Exact match, ROUGE-L and loss of each model with their 95 % intervals; the exact match as a bar as well.

    Parameters
    ----------
    scores : mapping of name to Scores
        What ``lorameta.evaluate`` returns.
    """
    rows = []
    for name, score in scores.items():
        intervals = score.intervals()
        cells = [_with_interval(getattr(score, key), intervals.get(key)) for key in COLUMNS]
        rows.append([name, *cells, bar(score.exact_match, cells=12)])
    return table(["model", *COLUMNS.values(), ""], rows, align="<>>><")


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
