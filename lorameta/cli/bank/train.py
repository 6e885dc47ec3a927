"""`lorameta bank train`: a folder of datasets in, a bank of adapters out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.declare import arg, opt, switch
from lorameta.cli.options import options_of
from lorameta.cli.reading import with_file_reading
from lorameta.training.settings import LoraTraining

if TYPE_CHECKING:
    from lorameta.bank_builder.train import BankPlan, BankProgress, BankTraining


@options_of(LoraTraining, "settings", dtype="bfloat16")
@with_file_reading
def train(
    *,
    tasks: Annotated[
        Path,
        arg(
            "TASKS", "A folder with a dataset in each file (.jsonl, .json, .csv, .tsv, .parquet), named after its task."
        ),
    ],
    base: Annotated[str, opt("MODEL", "The base: a directory or a Hub id.")],
    output: Annotated[Path, opt("DIR", "The bank; say it again to resume.", "--output", "-o")],
    revision: Annotated[str | None, opt("REV", "Revision of a base on the Hub.")] = None,
    settings: LoraTraining,
    calibration: Annotated[
        list[Path] | None, opt("FILE", "Generic text for --init-a principal, plain or .gz; may be repeated.")
    ] = None,
    jobs: Annotated[int | None, opt("N", "Trainings at once; by default as many as there are cores.")] = None,
    threads: Annotated[int | None, opt("N", "Threads of each training.")] = None,
    dask: Annotated[
        str | None, opt("ADDRESS", "Train on the workers of a dask cluster; the scheduler's address.")
    ] = None,
    keep_all: Annotated[
        bool, switch("--keep-all", "Keep adapters that do not beat the base on validation rows.")
    ] = False,
    score_rows: Annotated[
        int | None,
        opt(
            "N",
            "Test rows that base and adapter answer, for exact match and ROUGE-L; by default 64, and none for a base "
            "of 300 million parameters or more.",
        ),
    ] = None,
    with_sentences: Annotated[
        bool, switch("--with-sentences", "Summarise sentence embeddings too, for the distances on them.")
    ] = False,
    prompt_template: Annotated[
        str,
        opt(
            "TEXT",
            "What stands around the input of a row, with {input} in it, or chat, the base's chat template; by "
            "default inputs are whole prompts.",
        ),
    ] = "",
    tasks_index: Annotated[
        Path | None, opt("FILE", "JSON with family, definition, licence and source by id; TASKS/index.json by default.")
    ] = None,
    name: Annotated[str | None, opt("NAME", "Of the bank; its directory's by default.")] = None,
    reading: Any = None,
    force: Annotated[bool, switch("--force", "Train again what DIR holds of another base or other settings.")] = False,
    dry_run: Annotated[bool, switch("--dry-run", "Say what would be done, and write nothing.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Train an adapter on each dataset of a folder, and make a bank of them.

    A killed run goes on where it was when the same command is given again. An adapter must beat the base on rows that
    it was not trained on. If tasks fail, the bank is made of the others, and the exit code is 1.
    """
    from lorameta.bank_builder.train import train_bank

    plans: list[BankPlan] = []

    def planned(plan: BankPlan) -> bool:
        plans.append(plan)
        if not as_json:
            typer.echo(_plan(plan), err=not dry_run)
        return not dry_run

    with _progress() as report:
        made = train_bank(
            tasks, base, output, settings=settings, revision=revision, name=name, index=tasks_index, jobs=jobs,
            threads=threads, dask=dask, keep_all=keep_all, sentences=with_sentences,
            score_rows=score_rows, force=force, calibration=calibration or (), prompt_template=prompt_template,
            reading=reading.for_files(), planned=planned, report=report,
        )  # fmt: skip
    if as_json:
        common.print_json(_as_dict(plans[0], made))
    elif made is not None:
        _print(made)
    if plans[0].unusable if made is None else (made.failed or made.bank is None):
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[BankProgress], None]]:
    """A bar in a terminal; elsewhere a line for each task that is finished."""
    from tqdm import tqdm

    from lorameta.machine.units import duration

    layout = "training {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"
    with tqdm(total=1, bar_format=layout, disable=None, leave=False, dynamic_ncols=True) as bar:

        def report(progress: BankProgress) -> None:
            left = "measuring" if progress.left is None else f"{duration(progress.left)} left"
            if progress.done == progress.total:
                left = "writing the bank"
            said = f"{progress.last}: {_losses(progress.losses)}" if progress.last else ""
            if bar.disable:
                if progress.fresh:
                    typer.echo(f"{progress.done}/{progress.total} {said}; {left}", err=True)
                return
            bar.total, bar.n = progress.total, progress.done
            bar.set_postfix_str(", ".join(part for part in (said, left) if part))

        yield report


def _losses(losses: tuple[float, float] | None) -> str:
    return "failed" if losses is None else f"validation loss {losses[0]:.3f} → {losses[1]:.3f}"


def _plan(plan: BankPlan) -> str:
    lines = []
    if plan.finished:
        lines.append(f"{len(plan.finished)} of {plan.tasks} adapters are there from an earlier run.")
    if plan.missing:
        rate = plan.settings.learning_rate
        lines.append(
            f"To train: {len(plan.missing)} adapters on {plan.rows:,} rows ({plan.tokens:,} tokens), "
            f"{plan.steps:,} steps in all, rate {rate:.2g}."
        )
        lines.append(f"{plan.workers} at once with {plan.threads} thread{'s' * (plan.threads > 1)} each: {plan.why}.")
    else:
        lines.append("There is nothing left to train.")
    lines += plan.read
    lines += [f"cannot be used: {name}: {why}" for name, why in sorted(plan.unusable.items())]
    return "\n".join(lines)


def _as_dict(plan: BankPlan, made: BankTraining | None) -> dict[str, Any]:
    content: dict[str, Any] = {"plan": asdict(plan)}
    if made is not None:
        content |= {
            "bank": None if made.bank is None else str(made.bank),
            "adapters": made.adapters,
            "left_out": made.left_out,
            "failed": made.failed,
        }
    return content | common.costs()


def _print(made: BankTraining) -> None:
    from lorameta.machine.units import duration
    from lorameta.report.table import table

    rows = []
    for name, facts in made.adapters.items():
        losses = [facts["losses"].get(part, {}) for part in ("validation", "test")]
        numbers = [found.get(who) for found in losses for who in ("base", "adapter")]
        epoch = f"{facts['best_epoch']} of {len(facts['validation_loss']) - 1}"
        rows.append([name, *numbers, epoch, duration(facts["seconds"])])
    if rows:
        headers = ["task", "base", "adapter", "base", "adapter", "best epoch", "time"]
        typer.echo(table(headers, rows, align="<>>>>>>"))
        typer.echo("\nLosses in nats per token of the answers: on validation rows, then on test rows.")
    for title, found in (("left out", made.left_out), ("failed", made.failed)):
        for name, why in sorted(found.items()):
            typer.echo(f"{title}: {name}: {why}", err=title == "failed")
    if made.failed:
        typer.echo("The same command tries again what failed.", err=True)
    if made.bank is None:
        typer.echo("No bank was written: there is no adapter that beats the base.", err=True)
        return
    count = len(made.adapters)
    typer.echo(
        f"\nThe bank {made.bank.name} has {count} adapter{'s' * (count != 1)}, after {duration(made.seconds)}. Next:\n"
        f"    lorameta bank check {common.quoted(made.bank)}\n"
        f"    lorameta generate DATA -o OUT --bank {common.quoted(made.bank)}"
    )
