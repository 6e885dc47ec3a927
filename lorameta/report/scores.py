"""Scores of several models on the same rows, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lorameta.report.table import bar, table

if TYPE_CHECKING:
    from lorameta.evaluate import Scores


def scores_table(scores: Mapping[str, Scores]) -> str:
    """Exact match, ROUGE-L and loss of each model; the exact match as a bar as well.

    Parameters
    ----------
    scores : mapping of name to Scores
        What ``lorameta.evaluate`` returns.
    """
    rows = [
        [
            name,
            f"{score.exact_match:.3f}",
            f"{score.rouge_l:.3f}",
            f"{score.loss:.3f}",
            bar(score.exact_match, cells=20),
        ]
        for name, score in scores.items()
    ]
    return table(["model", "exact match", "ROUGE-L", "loss a token", ""], rows, align="<>>><")
