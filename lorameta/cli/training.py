"""What `refine`, `finetune` and `generate --refine-…` share: options, progress, what they print."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common, html
from lorameta.cli.declare import opt, switch
from lorameta.cli.progress import waiting
from lorameta.errors import UsageError
from lorameta.files.links import user_path

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.cli.reading import Reading
    from lorameta.data import Example
    from lorameta.training import RefineSettings, TrainingProgress
    from lorameta.training.plan import TrainingPlan

Rows = Annotated[
    list[Path],
    opt(
        "DATA",
        "Your rows: a .jsonl, .json, .csv, .tsv or .parquet file, also packed (.gz, .zst), a folder or a "
        "pattern; several times for several.",
        "--data",
        "-d",
    ),
]
Output = Annotated[
    Path, opt("DIR", "Where the new adapter goes; the same command goes on after a kill.", "--output", "-o")
]
Validation = Annotated[
    Path | None, opt("FILE", "Rows to choose the best state by; by default a tenth of DATA, not trained on.")
]
LogFile = Annotated[
    Path | None, opt("FILE", "Add a JSON line to FILE for each step, measurement, checkpoint.", "--log")
]
DryRun = Annotated[bool, switch("--dry-run", "Say what it would take, from two steps, and stop.")]
Fresh = Annotated[bool, switch("--fresh", "Start over instead of resuming a run that was killed.")]
Force = Annotated[bool, switch("--force", "Replace the adapter that DIR holds already.")]


def check_output(output: Path, force: bool, given: Path | None = None) -> None:
    """Refuse before the work what could not be written after it, and the adapter that was given in any case."""
    if given is not None and output.resolve() == given.resolve():
        raise UsageError(f"{output} is the adapter that is refined; it is never overwritten: name another directory")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; name a directory for the adapter")
    if output.is_dir() and any(output.iterdir()):
        if not (output / "adapter_config.json").is_file():
            raise UsageError(f"{output} is not empty and holds no adapter; name a new directory")
        if not force:
            raise UsageError(f"{output} holds an adapter already; name another directory, or replace it with --force")


def state_of(output: Path) -> Path:
    """Return where the checkpoints of a run are that writes `output`."""
    place = user_path(output).resolve()
    return place.with_name(f".{place.name}.training")


def train(
    verb: str, data: list[Path], output: Path, settings: RefineSettings, *,
    base: str | None, adapter: Path | None = None, revision: str | None = None, validation: Path | None,
    log: Path | None, dry_run: bool, fresh: bool, reading: Reading, force: bool, html_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Carry out `refine` and `finetune`: show the plan, train, write the new adapter, print what came of it."""
    meter = html.start(html_file)
    check_output(output, force, adapter)
    rows = reading.rows(data, labelled=True)
    held = None if validation is None else reading.rows(validation, labelled=True)
    with ExitStack() as stack:
        with waiting("preparing"):
            from lorameta.adapter import Adapter
            from lorameta.training import prepared

            start = None if adapter is None else Adapter.from_pretrained(adapter)
            checkpoint = None if dry_run else state_of(output)
            job = stack.enter_context(
                prepared(
                    rows, base, settings, start=start, revision=revision, validation=held, log=log, fresh=fresh,
                    checkpoint=checkpoint,
                )
            )  # fmt: skip
        named = base if start is None else start.base_model
        facts = reading.facts() | ({} if adapter is None else {"start": str(adapter)}) | {"base_model": named}
        if not as_json:
            typer.echo(described(job.plan), err=not dry_run)
        if dry_run:
            if as_json:
                common.print_json(facts | {"plan": job.plan.as_dict()} | _costs())
            return
        with watching(job.plan) as report:
            trained = job.run(report=report)
        trained.report.update(reading.facts(only_read=True))
        write(trained, output)
        job.forget()
        about = trained.report["refinement"]
        found = facts | {"adapter": str(output), "plan": job.plan.as_dict(), "refinement": about} | _costs()
        if sources := trained.report.get("sources"):
            found["sources"] = sources
        if html_file is not None:
            found |= html.side_by_side(trained, rows, base=base, revision=revision) | _costs()
        found = html.write(verb, html_file, found, meter)
        if as_json:
            common.print_json(found)
        else:
            typer.echo(summary(about))
            typer.echo(written(trained, output, common.flags(base=base or named, **reading.flags())))
            html.written(html_file)
        if about["diverged"]:
            typer.echo(
                f"lorameta: the training diverged at {about['diverged']}; a smaller --learning-rate than "
                f"{about['learning_rate']:.2g} may help. What was written is the best state before.",
                err=True,
            )
            if about["best_step"] == 0:
                raise typer.Exit(1)


def written(adapter: Adapter, output: Path, options: str = "") -> str:
    """Say where a trained adapter is, and what to do next; `options` are those of ``lorameta evaluate``."""
    return (
        f"Adapter       {output}  (rank {adapter.rank}, {adapter.num_parameters:,} parameters)\n\n"
        "Next, score it on rows that it has not seen:\n"
        f"    lorameta evaluate TEST.jsonl --adapter {common.quoted(output)}{options}"
    )


def refined(adapter: Adapter, rows: list[Example], base: str, settings: RefineSettings, output: Path) -> Adapter:
    """Return a generated adapter after some steps on its rows; the checkpoints stay until :func:`forget`."""
    from lorameta.training import prepared

    with ExitStack() as stack:
        with waiting("preparing the refinement"):
            job = stack.enter_context(prepared(rows, base, settings, start=adapter, checkpoint=state_of(output)))
        typer.echo(described(job.plan), err=True)
        with watching(job.plan) as report:
            return job.run(report=report)


def forget(output: Path) -> None:
    """Remove the checkpoints of a run: its result is safe."""
    shutil.rmtree(state_of(output), ignore_errors=True)


def write(adapter: Adapter, output: Path) -> None:
    """The adapter as a PEFT directory, with the command on its card."""
    from lorameta.adapter.card import card

    run = {"Command": common.command(), "Time": f"{common.elapsed():.1f} s"}
    adapter.save_pretrained(output, card=card(adapter, run=run))


@contextmanager
def watching(plan: TrainingPlan) -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar in a terminal: losses, tokens per second, memory, time left."""
    from tqdm import tqdm

    from lorameta.machine.units import duration, gigabytes

    layout = "training {percentage:3.0f}% |{bar}| {postfix}"
    with tqdm(total=1.0, bar_format=layout, disable=None, leave=False, dynamic_ncols=True) as bar:

        def report(progress: TrainingProgress) -> None:
            if bar.disable:
                return
            steps = "" if progress.steps is None else f"/{progress.steps}"
            loss = "" if progress.loss is None else f"loss {progress.loss:.3f}, "
            bar.n = progress.used
            bar.set_postfix_str(
                f"step {progress.step}{steps}, {loss}validation {progress.validation:.3f} (best {progress.best:.3f}), "
                f"{progress.tokens_a_second:.0f} tokens/s, {gigabytes(progress.memory)}, {duration(progress.left)} left"
            )

        yield report


def described(plan: TrainingPlan) -> str:
    """Return a plan in a few lines."""
    from lorameta.machine.units import duration, gigabytes, seconds

    shortened = f", {plan.shortened} of them shortened" if plan.shortened else ""
    how = f"{plan.expected_steps:,} steps" if plan.minutes is None else f"about {plan.expected_steps:,} steps"
    budget = "" if plan.minutes is None else f", ended after {plan.minutes:g} min (the rate follows the time)"
    twice = ", with gradient checkpointing" if plan.checkpointing else ""
    lines = [
        f"Rows          {plan.rows:,} to train on{shortened}, {plan.held_out:,} held out; "
        f"{plan.tokens:,} tokens per epoch, {plan.longest:,} in the longest row",
        f"Steps         {how} of {plan.batch_size} rows ({plan.steps_an_epoch:,} an epoch){budget}, "
        f"learning rate {plan.learning_rate:.2g}",
        f"Adapter       rank {plan.rank}, alpha {plan.alpha:g}, {plan.parameters:,} parameters on "
        f"{', '.join(plan.targets)}",
        f"Precision     {plan.precision} ({plan.why}){twice}, {plan.threads} thread{'s' * (plan.threads > 1)}",
        f"Memory        {gigabytes(plan.memory)} needed, {gigabytes(plan.available)} present",
        f"Time          {duration(plan.seconds)}: {seconds(plan.step_seconds)} per step, "
        f"{1 / plan.token_seconds:,.0f} tokens per second",
    ]
    if plan.top_layers < plan.layers:
        once = "; what the others make of a row is computed once and kept" if plan.kept_layers else ""
        lines.insert(3, f"Layers        the {plan.top_layers} uppermost of {plan.layers}{once}")
    if plan.resumed_at:
        lines.append(f"Resumed       at step {plan.resumed_at:,}, where an earlier run was stopped")
    return "\n".join(lines)


def summary(about: dict[str, Any]) -> str:
    """Return what came of a training, in a few lines."""
    from lorameta.machine.units import duration

    first, last, best = about["loss_at_start"], about["loss"], about["best_step"]
    kept = f"the state after step {best} was kept" if best else "no step made it better, so the start was kept"
    return (
        f"Trained       {about['steps']:,} steps in {duration(about['seconds'])}, {about['tokens']:,} tokens\n"
        f"Held out      loss {first:.4f} → {last:.4f} on {about['held_out']} rows; {kept}\n"
        f"Peak memory   {about['peak_memory_mb']} MB"
    )


def _costs() -> dict[str, Any]:
    return {"total_seconds": common.elapsed(), "process_peak_memory_mb": common.peak_memory()}
