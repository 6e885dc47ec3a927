"""`lorameta fit`: labelled rows in, an adapter of the model's end out, from forward passes alone and without a bank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lorameta.cli import common, training
from lorameta.cli.declare import opt
from lorameta.cli.progress import counting, waiting
from lorameta.cli.reading import with_reading
from lorameta.errors import UsageError


@with_reading
def fit(
    *,
    data: common.Data,
    output: Annotated[Path, opt("DIR", "Where the adapter goes.", "--output", "-o")],
    base: Annotated[
        str | None, opt("MODEL", "The base: a directory or a Hub id; by default ADAPTER's.", "--base", "-b")
    ] = None,
    adapter: Annotated[
        Path | None, opt("ADAPTER", "Fit on top of this one, a PEFT directory.", "--adapter", "-a")
    ] = None,
    where: Annotated[
        str,
        opt(
            "PLACE",
            "block: the last down_proj, which llama.cpp takes as well. head: a LoRA on lm_head. both, or auto: the "
            "block, unless rows that are held out say that the head is better.",
        ),
    ] = "auto",
    rank: Annotated[int | None, opt("R", "Rank of the update; 32 by default.", min=1)] = None,
    held_out: Annotated[float, opt("SHARE", "Share of the rows that decide; above 0, at most 0.5.")] = 0.25,
    budget: Annotated[
        float | None, opt("SECONDS", "About how long it may take; rows that do not fit in are left out.")
    ] = None,
    seed: Annotated[int, opt(None, "Seed of which rows are held out or left out.")] = 0,
    reading: Any = None,
    force: training.Force = False,
    as_json: common.AsJson = False,
) -> None:
    """Fit the end of a base model to labelled rows: forward passes only, no bank, no gradient through the model.

    The baseline that any bank has to beat, and what generate does behind its mixture. What does no good on held-out
    rows is not kept: then ADAPTER is written as it is, and without one nothing is.
    """
    training.check_output(output, force, adapter)
    if base is None and adapter is None:
        raise UsageError("name the base model with --base, or an adapter to fit on top of with --adapter")
    examples = reading.rows(data, labelled=True)
    with waiting("loading the base model"):
        from lorameta.adapter import Adapter
        from lorameta.base_model.load import load_base, pass_dtype
        from lorameta.training.fit import fit_readout

        start = None if adapter is None else Adapter.from_pretrained(adapter)
        name = base or (start.base_model if start is not None else "")
        revision = start.base_revision if start is not None and base is None else None
        loaded = load_base(name, revision, pass_dtype())
    with counting("reading", len(examples), "rows") as progress, waiting("fitting"):
        fitted, report = fit_readout(
            start, examples, base=loaded, where=where, rank=rank, held_out=held_out, budget=budget, seed=seed,
            progress=progress,
        )  # fmt: skip
    written = bool(report["kept"] or start is not None)
    if written:
        training.write(fitted, output)
    if as_json:
        facts = {**reading.facts(), "base_model": fitted.base_model, "adapter": str(output) if written else None}
        common.print_json(facts | {"fit": report} | common.costs())
    else:
        typer.echo(summary(report))
        if written:
            typer.echo(training.written(fitted, output))
    if not written:
        typer.echo(f"lorameta: no update was kept ({report['reason']}), so nothing was written", err=True)
        raise typer.Exit(1)


def summary(report: dict[str, Any]) -> str:
    """Return a few lines on what was fitted and what it is good for."""
    from lorameta.report.mixture import aligned

    left_out = report["rows"] - report["used_rows"]
    facts = [
        (
            "Rows",
            f"{report['used_rows']} in one pass" + (f"; {left_out} left out to keep to the budget" if left_out else ""),
        ),
    ]
    if "where" in report:
        names = {"block": "the last down_proj", "head": "the head"}
        places = " and ".join(f"{names[part]} at rank {rank}" for part, rank in report["rank"].items())
        before, after = report["before"], report["after"]
        facts += [
            ("Fitted", places if report["kept"] else f"{places}; not kept: {report['reason']}"),
            (
                "Loss",
                f"{before['loss']:.3f} → {after['loss']:.3f} on {report['held_out_rows']} rows that were held out",
            ),
            ("Exact match", f"{before['exact_match']:.1%} → {after['exact_match']:.1%} on these"),
        ]
    else:
        facts.append(("Fitted", f"nothing: {report['reason']}"))
    seconds = report["seconds"]
    facts.append(("Time", f"{seconds['pass']:.1f} s for the pass, {seconds['solve']:.1f} s for the fit"))
    return str(aligned(facts))
