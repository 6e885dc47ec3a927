"""`lorameta generate`: rows in, a PEFT adapter directory out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common, html, operators, training
from lorameta.cli.declare import opt, switch
from lorameta.cli.options import options_of
from lorameta.cli.reading import with_reading
from lorameta.errors import LorametaWarning
from lorameta.training.options import RefineSettings

if TYPE_CHECKING:
    from lorameta.adapter import Adapter


@options_of(RefineSettings, "refine", only=("steps", "minutes", "epochs", "learning_rate"), prefix="refine-")
@operators.with_operators
@with_reading
def generate(
    *,
    data: common.Data,
    output: Annotated[Path, opt("DIR", "Where the adapter goes.", "--output", "-o")],
    bank: common.Bank = common.DEFAULT_BANK,
    distance: operators.Distance = None,
    weighing: Any = None,
    combiner: Annotated[
        str | None,
        opt("NAME", "How the adapters are added up: delta (exact, then cut to the rank), concat, factor, or auto."),
    ] = None,
    rank: Annotated[int | None, opt("R", "Rank of the new adapter; that of the bank's by default.", min=1)] = None,
    refine: RefineSettings | None,
    fit: Annotated[
        bool | None,
        switch(
            "--fit/--no-fit", "Fit a readout to the labelled rows afterwards; by default where auto has time for it."
        ),
    ] = None,
    seed: common.Seed = 0,
    reading: Any = None,
    force: training.Force = False,
    html_file: html.File = None,
    as_json: common.AsJson = False,
) -> None:
    """Make an adapter for your rows and write it as a PEFT directory.

    It is mixed from the adapters of the bank, without training unless one of the options --refine-... asks for
    some. Rows with answers are used to try adapters on, if the base model is on this machine. Options that are left
    out take the values that measured best; what was used is printed.
    """
    training.check_output(output, force)
    meter = html.start(html_file)
    rows = reading.rows(data, labelled=refine is not None)
    with operators.progress("generating") as progress:
        from lorameta.adapter.card import card, conflicts
        from lorameta.generate import generate_adapter

        opened = common.open_bank(bank)
        adapter = generate_adapter(
            rows,
            bank=opened,
            rank=rank,
            seed=seed,
            progress=progress,
            **weighing,
            **common.given(distance=distance, combiner=combiner, fit=fit),
        )
    if refine is not None:
        adapter = training.refined(adapter, rows, opened.base_model, replace(refine, seed=seed), output)
    adapter.report.update(reading.facts(only_read=True))
    adapter.save_pretrained(output, card=card(adapter, run=_run()))
    if refine is not None:
        training.forget(output)
    for sentence in conflicts(adapter.report):
        warnings.warn(f"licences: {sentence}", LorametaWarning, stacklevel=1)
    report = {**reading.facts(), "adapter": str(output), "base_model": adapter.base_model, **adapter.report}
    if html_file is not None:
        from lorameta.report.html.bank_map import bank_map

        report |= {"map": bank_map(report, opened)}
        report |= html.side_by_side(adapter, rows, base=opened.base_model, revision=opened.base_revision)
    report = html.write("generate", html_file, report | common.costs(), meter)
    if as_json:
        common.print_json(report)
        return
    families = {name: record.family for name, record in opened.records.items()}
    _print(output, adapter, families, common.flags(bank=bank, **reading.flags()))
    html.written(html_file)


def _run() -> dict[str, str]:
    """Return what the card says of this run."""
    from importlib.metadata import version

    from lorameta import __version__

    others = ("numpy", "safetensors", "tokenizers")
    return {
        "Command": common.command(),
        "Versions": ", ".join([f"lorameta {__version__}", *(f"{name} {version(name)}" for name in others)]),
        "Time": f"{common.elapsed():.1f} s",
        "Peak memory": f"{common.peak_memory()} MB",
    }


def _print(output: Path, adapter: Adapter, families: dict[str, str], options: str) -> None:
    from lorameta.report.mixture import aligned, compared, mixture_lines, weights_table

    report = adapter.report
    typer.echo(compared(report, report["bank"]))
    typer.echo(f"\n{weights_table(report, families)}\n")
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report["seconds"].items())
    size = sum(path.stat().st_size for path in output.iterdir())
    facts = [
        *mixture_lines(report),
        ("Time", f"{common.elapsed():.1f} s  ({steps})"),
        ("Peak memory", f"{common.peak_memory()} MB"),
        (
            "Adapter",
            f"{output}  (rank {adapter.rank}, {adapter.num_parameters:,} parameters, {common.file_size(size)})",
        ),
    ]
    typer.echo(aligned(facts))
    if "refinement" in report:
        typer.echo(f"\n{training.summary(report['refinement'])}")
    typer.echo(
        f"""
Next, ask it:
    lorameta ask {common.quoted(output)} "AN INPUT" --compare
score it on rows that it has not seen:
    lorameta evaluate TEST.jsonl --adapter {common.quoted(output)}{options}
or load it in Python:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    base = AutoModelForCausalLM.from_pretrained({adapter.base_model!r})
    model = PeftModel.from_pretrained(base, {str(output)!r})"""
    )
