"""`lorameta doctor`: what this machine can do for a base model."""

from __future__ import annotations

from typing import Annotated

import typer

from lorameta.cli import common
from lorameta.cli.progress import waiting


def doctor(
    base: Annotated[
        str | None,
        typer.Argument(
            metavar="BASE",
            help="A directory or a Hub id; only its config.json is read. By default the bank's base.",
            show_default=False,
        ),
    ] = None,
    bank: Annotated[
        str | None,
        typer.Option(
            "--bank", metavar="NAME", help="The bank: a directory, or, without BASE, the one that comes with lorameta."
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="REV", help="Of a BASE on the Hub.")] = None,
    rank: Annotated[int, typer.Option(min=1, metavar="R", help="Rank of the adapter that is refined.")] = 16,
    targets: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Its layers, e.g. q_proj,v_proj, or all-linear; by default as in the bank."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Rows of a training step.")] = 1,
    length: Annotated[int, typer.Option(min=8, metavar="N", help="Tokens of a row, and of a prompt.")] = 512,
    quick: Annotated[bool, typer.Option("--quick", help="Measure nothing: memory, processor and free space.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Say what this machine can do for a base model: generate adapters, run it, refine an adapter.

    Memory is computed from the base's shape. Times are measured on some of its layers with random weights, in about 20
    seconds; the weights themselves are not needed.
    """
    with waiting("examining"):
        from lorameta.doctor import examine

        report = examine(
            base,
            bank=bank,
            revision=revision,
            rank=rank,
            targets=None if targets is None else tuple(name.strip() for name in targets.split(",")),
            batch_size=batch_size,
            length=length,
            quick=quick,
        )
    if as_json:
        common.print_json(
            report.as_dict() | {"total_seconds": common.elapsed(), "peak_memory_mb": common.peak_memory()}
        )
        return
    from lorameta.report.doctor import examined

    typer.echo(examined(report))
    typer.echo(f"\nExamined in {common.elapsed():.0f} s.")
