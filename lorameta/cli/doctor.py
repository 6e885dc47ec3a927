"""`lorameta doctor`: what this machine can do for a base model."""

from __future__ import annotations

from typing import Annotated

import typer

from lorameta.cli import common
from lorameta.cli.declare import arg, opt, switch
from lorameta.cli.progress import waiting


def doctor(
    base: Annotated[
        str | None, arg("BASE", "A directory or a Hub id; only its config.json is read. By default the bank's base.")
    ] = None,
    bank: Annotated[
        str | None, opt("NAME", "The bank: a directory, or, without BASE, the one that comes with lorameta.")
    ] = None,
    revision: Annotated[str | None, opt("REV", "Of a BASE on the Hub.")] = None,
    rank: Annotated[int, opt("R", "Rank of the adapter that is refined.", min=1)] = 16,
    targets: Annotated[
        str | None, opt("NAMES", "Its layers, e.g. q_proj,v_proj, or all-linear; by default as in the bank.")
    ] = None,
    batch_size: Annotated[int, opt("N", "Rows of a training step.", min=1)] = 1,
    length: Annotated[int, opt("N", "Tokens of a row, and of a prompt.", min=8)] = 512,
    quick: Annotated[bool, switch("--quick", "Measure nothing: memory, processor and free space.")] = False,
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
        common.print_json(report.as_dict() | common.costs())
        return
    from lorameta.report.doctor import examined

    typer.echo(examined(report))
    typer.echo(f"\nExamined in {common.elapsed():.0f} s.")
