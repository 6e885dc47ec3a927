"""`--html FILE`: what a verb found as one page, from the same object that `--json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.errors import LorametaError, UsageError

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.data import Example
    from lorameta.machine.energy import EnergyMeter

File = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a report as one page: no script, nothing from the network."),
]
#: Rows whose answers are shown in the report of a generated adapter.
ASKED = 6
LONGEST_ANSWER = 48


def start(file: Path | None) -> EnergyMeter | None:
    """Refuse a place that cannot be written, and begin to count the energy; None without a report."""
    if file is None:
        return None
    if file.is_dir() or (file.exists() and not file.is_file()):
        raise UsageError(f"{file} is no file; name a file for the report, as report.html")
    if file.exists() and not file.read_bytes()[:15].lower().startswith(b"<!doctype html"):
        raise UsageError(f"{file} is there already and is no report; name another file")
    from lorameta.machine.energy import EnergyMeter

    return EnergyMeter()


def write(verb: str, file: Path | None, report: dict[str, Any], meter: EnergyMeter | None) -> dict[str, Any]:
    """Write the page if it is wanted; the report, with the energy where there is a page."""
    if file is None or meter is None:
        return report
    from lorameta.files.atomic import write_file
    from lorameta.report.html import html_report

    report = report | {"energy_joules": meter.joules()}
    write_file(file, html_report(verb, report).encode("utf-8", "replace"))
    return report


def written(file: Path | None) -> None:
    """Say where the page is."""
    if file is not None:
        typer.echo(f"Report {file}")


def side_by_side(adapter: Adapter, bank: AdapterBank, examples: Sequence[Example]) -> dict[str, Any]:
    """What base and adapter answer to a few of the rows; why not, where the base cannot be run."""
    try:
        from lorameta.ask import Answerer

        examples = bank.prompts(examples)
        model = Answerer(adapter, base=bank.base_model, revision=bank.base_revision)
        step = max(1, len(examples) // ASKED)
        rows = [_asked(model, example) for example in examples[::step][:ASKED]]
    except LorametaError as error:
        return {"no_answers": f"No answers are shown, as the base model cannot be run here: {error}"}
    note = "Rows that the adapter was made from; how good it is, only other rows can tell (lorameta evaluate)."
    return {"answers": rows, "answers_note": note}


def _asked(model: Any, example: Any) -> dict[str, Any]:
    said = {
        name: model.answer(example.input, with_adapter=active, max_new_tokens=LONGEST_ANSWER, raw=True)
        for name, active in (("base", False), ("adapter", True))
    }
    wanted = [output.strip() for output in example.outputs]
    models = {
        name: {"answer": answer, "exact_match": float(answer in wanted) if wanted else None}
        for name, answer in said.items()
    }
    return {"prompt": example.input, "references": list(example.outputs), "models": models}
