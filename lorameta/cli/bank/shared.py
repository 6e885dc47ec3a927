"""What the verbs of `lorameta bank` share: the argument BANK, and the scores that two of them show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.declare import arg

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank, AdapterRecord
    from lorameta.bank.fitted import Fitted
    from lorameta.bank.hub.pull import Pulled
    from lorameta.bank_builder.hub.build import Indexed
    from lorameta.bank_builder.local import Built

WHO = ("base", "adapter")
METRICS = ("base_exact_match", "adapter_exact_match", "base_rouge_l", "adapter_rouge_l")
METRIC_HEADERS = ("EM base", "adapter", "RL base", "adapter")
METRIC_NOTE = "EM: exact match, RL: ROUGE-L, on the test rows of each adapter's own task"

Name = Annotated[str, arg("BANK", "A bank's directory, or a name as for --bank of lorameta generate.")]


def outdated(bank: AdapterBank) -> list[Fitted]:
    """Return what was fitted to other adapters than the bank has now."""
    from lorameta.bank.fitted import fitted

    return [one for one in fitted(bank) if not one.valid]


def show_outdated(found: Iterable[Fitted]) -> None:
    """Say what is not used any more."""
    for one in found:
        typer.echo(f"note: {one.file} was made for other adapters and is not used any more; {one.remedy}")


def made_facts(made: Built | Indexed | Pulled) -> dict[str, Any]:
    """Return the fields of what a verb made, for JSON; its place is called `bank`."""
    rest = {name: value for name, value in vars(made).items() if name != "path"}
    return {"bank": str(made.path), **rest, "total_seconds": common.elapsed()}


def show_notes(
    left_out: Iterable[Mapping[str, Any]], notes: Iterable[str], renamed: Mapping[str, str] | None = None
) -> None:
    """Say what a build left out, and what else is to be known of it."""
    for entry in left_out:
        typer.echo(f"left out: {entry['id']}: {entry['reason']}")
    for was, now in (renamed or {}).items():
        typer.echo(f"renamed: {was} is called {now} by now; it is in the bank under that name")
    for note in notes:
        typer.echo(f"note: {note}")


def megabytes(advance: Callable[[int], object]) -> Callable[[int], None]:
    """Return a progress function that is told bytes, for a bar that counts megabytes."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        advance((done + count) // 1_000_000 - done // 1_000_000)
        done += count

    return tick


def scores(record: AdapterRecord) -> dict[str, float | None]:
    """Return what base and adapter scored on the test rows of the adapter's own task; None where it was not
    measured."""
    test = record.scores.get("test")
    return {f"{who}_{metric}": _number(test, who, metric) for metric in ("exact_match", "rouge_l") for who in WHO}


def _number(scores: Any, *keys: str) -> float | None:
    """Return what is under some keys, one in the other; None unless it is a number: what a record says of scores is
    free."""
    for key in keys:
        scores = scores.get(key) if isinstance(scores, dict) else None
    return scores if isinstance(scores, (int, float)) else None
