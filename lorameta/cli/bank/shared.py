"""What the verbs of `lorameta bank` share: the argument BANK, and the scores that two of them show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lorameta.bank import AdapterRecord

WHO = ("base", "adapter")
METRICS = ("base_exact_match", "adapter_exact_match", "base_rouge_l", "adapter_rouge_l")
METRIC_HEADERS = ("EM base", "adapter", "RL base", "adapter")
METRIC_NOTE = "EM: exact match, RL: ROUGE-L, on the test rows of each adapter's own task"

Name = Annotated[
    str, typer.Argument(metavar="BANK", help="A bank's directory, or a name as for --bank of lorameta generate.")
]


def megabytes(advance: Callable[[int], object]) -> Callable[[int], None]:
    """A progress function that is told bytes, for a bar that counts megabytes."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        advance((done + count) // 1_000_000 - done // 1_000_000)
        done += count

    return tick


def scores(record: AdapterRecord) -> dict[str, float | None]:
    """What base and adapter scored on the test rows of the adapter's own task; None where it was not measured."""
    test = record.scores.get("test")
    return {f"{who}_{metric}": _number(test, who, metric) for metric in ("exact_match", "rouge_l") for who in WHO}


def _number(scores: Any, *keys: str) -> float | None:
    """What is under some keys, one in the other; None unless it is a number: what a record says of scores is free."""
    for key in keys:
        scores = scores.get(key) if isinstance(scores, dict) else None
    return scores if isinstance(scores, (int, float)) else None
