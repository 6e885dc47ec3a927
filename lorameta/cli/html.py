"""`--html FILE`: what a verb found as one page, from the same object that `--json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli.declare import opt
from lorameta.cli.progress import waiting
from lorameta.errors import UsageError

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.ask import Answerer
    from lorameta.data import Example
    from lorameta.machine.energy import EnergyMeter

File = Annotated[Path | None, opt("FILE", "Write a report as one page: no script, nothing from the network.", "--html")]


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


def side_by_side(
    adapter: Adapter, examples: Sequence[Example], *, base: str | None = None, revision: str | None = None
) -> dict[str, Any]:
    """Return what base and adapter answer to a few of the rows; why not, where the base cannot be run."""
    from lorameta.report.side_by_side import side_by_side as ask

    def answerer() -> Answerer:
        from lorameta.ask import Answerer

        return Answerer(adapter, base=base, revision=revision)

    with waiting("asking the base and the adapter"):
        return ask(answerer, examples)
