"""`lorameta explain`: what an adapter for these rows would be mixed from, without making it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lorameta.cli import common, html, operators
from lorameta.cli.declare import opt
from lorameta.cli.reading import named, with_reading


@operators.with_operators
@with_reading
def explain(
    data: common.Data,
    bank: common.Bank = common.DEFAULT_BANK,
    distance: operators.Distance = None,
    weighing: Any = None,
    seed: common.Seed = 0,
    reading: Any = None,
    show: Annotated[int, opt("N", "Adapters to list.", min=1)] = 20,
    html_file: html.File = None,
    as_json: common.AsJson = False,
) -> None:
    """Show what an adapter for your rows would be mixed from.

    Nothing is written. Rows with answers are tried out as `lorameta generate` does, without the readout; --fast goes by
    the distances alone. Options that are left out take the values that measured best; what was used is printed.
    """
    meter = html.start(html_file)
    chosen = common.given(distance=distance) | weighing
    rows = reading.rows(data)
    with operators.progress("comparing") as progress:
        from lorameta.generate import COMBINER, mix

        opened = common.open_bank(bank)
        mixture = mix(
            rows,
            bank=opened,
            seed=seed,
            progress=progress,
            **chosen,
        )
    report = mixture.report() | {"bank": opened.name, "forecast": mixture.forecast(opened, COMBINER)}
    facts: dict[str, Any] = {**reading.facts(), **report, "seconds": common.elapsed()}
    if html_file is not None:
        from lorameta.report.html.bank_map import bank_map

        facts |= {"map": bank_map(report, opened), "peak_memory_mb": common.peak_memory()}
        facts["sources"] = mixture.sources(opened)
        facts = html.write("explain", html_file, facts, meter)
    if as_json:
        common.print_json(facts)
        return

    from lorameta.report.mixture import aligned, compared, mixture_lines, weights_table

    families = {name: record.family for name, record in opened.records.items()}
    typer.echo(compared(report, opened.name))
    typer.echo(f"\n{weights_table(report, families, show=show)}\n")
    typer.echo(aligned([*mixture_lines(report), ("Time", f"{common.elapsed():.1f} s")]))
    options = common.flags(bank=bank, **operators.flags(chosen), **reading.flags())
    typer.echo(f"\nTo make the adapter:\n    lorameta generate {named(data)} -o my-adapter{options}")
    html.written(html_file)
