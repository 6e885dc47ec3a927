"""`lorameta bank fit`: an operator fitted to a bank: neural, transfer, or multi_task."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import Name
from lorameta.cli.declare import opt
from lorameta.cli.progress import counting
from lorameta.cli.reading import with_file_reading
from lorameta.errors import DataError, LorametaError, UsageError

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank
    from lorameta.data import ReadOptions
    from lorameta.data.split import Parts


class Fittable(str, Enum):
    """The operators that are fitted."""

    neural = "neural"
    transfer = "transfer"
    multi_task = "multi_task"


@with_file_reading
def fit(
    bank: Name = common.DEFAULT_BANK,
    operator: Annotated[Fittable, opt(None, "Which operator.")] = Fittable.neural,
    tasks: Annotated[
        Path | None,
        opt("FOLDER", "For transfer and multi_task: the rows that the adapters were trained on, TASK.jsonl for each."),
    ] = None,
    rows: Annotated[
        int | None,
        opt("N", "For transfer and multi_task: rows of each task. [default: 12 and 16]", min=1, show_default=False),
    ] = None,
    distance: Annotated[
        list[str] | None,
        opt(
            "NAME",
            "A distance to fit to; may be given several times. By default all that the bank has summaries for.",
            "--distance",
            "-d",
        ),
    ] = None,
    width: Annotated[int, opt("N", "Units of each hidden layer.", min=1)] = 32,
    seed: Annotated[int, opt(None, "Seed of the network's start and of the cross-validation.")] = 0,
    reading: Any = None,
    as_json: common.AsJson = False,
) -> None:
    """Fit an operator to a bank and keep it there, for `generate --operator NAME`.

    Neural: each adapter is rebuilt from the others. The errors are relative and squared: 0 is the adapter itself, 1 is
    as far from it as no update at all, so an operator that does not come below 1 has learned nothing of use.

    Transfer: the base model is run over held-out rows of each task, forwards and once backwards, to measure what the
    other adapters are worth to it. No step is taken.

    Multi-task: one adapter is trained on rows of all tasks, by the bank's recipe.
    """
    by_rows = {Fittable.transfer: _fit_transfer, Fittable.multi_task: _fit_multi_task}
    if (operator in by_rows) != (tasks is not None):
        raise UsageError("--operator transfer and multi_task need --tasks FOLDER, and --tasks is for them alone")
    if rows is not None and tasks is None:
        raise UsageError("--rows is for --operator transfer and multi_task alone")
    from lorameta.distance import DISTANCES
    from lorameta.mixing.neural_fit import FOLDS, bank_gram, fittable, save
    from lorameta.mixing.neural_fit import fit as fit_to

    opened = common.open_bank(bank)
    if tasks is not None:
        by_rows[operator](opened, _read_parts(opened, tasks, reading.for_files()), rows, as_json)
        return
    names = list(dict.fromkeys(distance)) if distance else fittable(opened)
    if unknown := [name for name in names if name not in DISTANCES]:
        raise UsageError(f"unknown distance {', '.join(unknown)}; there are {', '.join(DISTANCES)}")
    for name in names:
        opened.summaries.part(DISTANCES[name].needs)
    with counting("multiplying adapters", len(opened), "adapters") as progress:
        gram = bank_gram(opened, progress=progress)
    fits, paths = [], []
    with counting("fitting", len(names), "distances") as progress:
        for name in names:
            fits.append(fit_to(opened, name, gram=gram, width=width, seed=seed))
            paths.append(save(fits[-1], opened))
            progress(1)
    if as_json:
        found = [{**one.as_dict(), "path": str(path)} for one, path in zip(fits, paths, strict=True)]
        common.print_json({"bank": opened.name, "fits": found, "total_seconds": common.elapsed()})
        return
    from lorameta.report.table import table

    ways = ("uniform", "normalized", "neural")
    lines = [
        [one.distance, *(errors.get(way) for errors in (one.operator.errors, one.cross_validated) for way in ways)]
        for one in fits
    ]
    typer.echo(f"Fitted to the {len(opened)} adapters of the bank {opened.name}; kept in {paths[0].parent}.\n")
    typer.echo(table(["distance", *ways, *(f"held-out {way}" for way in ways)], lines, align="<>>>>>>"))
    typer.echo(
        "\nMean relative squared error of an adapter rebuilt from the others; 1 is as bad as no update at all.\n"
        f"Held out: in {FOLDS} parts, each rebuilt from the others by an operator that was fitted to the others."
    )


def _fit_transfer(bank: AdapterBank, parts: Mapping[str, Parts], rows: int | None, as_json: bool) -> None:
    from lorameta.mixing.transfer_fit import ROWS, measure
    from lorameta.operator.transfer_file import save

    count = ROWS if rows is None else rows
    held_out = {name: part.validation[:count] for name, part in parts.items()}
    with counting("measuring", len(bank), "tasks") as progress:
        worth = measure(bank, held_out, progress=progress)
    path = save(worth, bank, rows=count)
    if as_json:
        common.print_json({"bank": bank.name, "rows": count, "path": str(path), "total_seconds": common.elapsed()})
        return
    best = sorted(zip(worth.mean(axis=0), bank.ids, strict=True), reverse=True)[:5]
    typer.echo(f"Measured on at most {count} held-out rows of each of the {len(bank)} tasks; kept in {path}.")
    typer.echo(f"Worth most to the others in the mean: {', '.join(name for _, name in best)}.")


def _fit_multi_task(bank: AdapterBank, parts: Mapping[str, Parts], rows: int | None, as_json: bool) -> None:
    from lorameta.mixing.multi_task_fit import ROWS, train
    from lorameta.operator.multi_task_file import save

    count = ROWS if rows is None else rows
    with counting("training", None, "steps") as progress:
        done = train(bank, parts, rows=count, progress=progress)
    if done.diverged is not None or not done.best_epoch:
        raise LorametaError(
            f"the adapter of all tasks is no better than the base on held-out rows ({done.history[-1]:.3f} to "
            f"{done.history[0]:.3f}){'' if done.diverged is None else f': {done.diverged}'}; nothing was kept"
        )
    path = save(done.adapter, bank, rows=count)
    losses = {"base": done.history[0], "adapter": done.history[done.best_epoch]}
    if as_json:
        facts = {"bank": bank.name, "rows": count, "steps": done.steps, "held_out_loss": losses, "path": str(path)}
        common.print_json(facts | {"total_seconds": common.elapsed()})
        return
    typer.echo(
        f"Trained on at most {count} rows of each of the {len(bank)} tasks, in {done.steps} steps; kept in {path}."
    )
    typer.echo(f"Loss on held-out rows of these tasks: {losses['adapter']:.3f}, of the base {losses['base']:.3f}.")


def _read_parts(bank: AdapterBank, tasks: Path, reading: ReadOptions) -> dict[str, Parts]:
    """Read the rows of each adapter's task, split as for its training."""
    from lorameta.bank.names import unsafe_ids
    from lorameta.data import read_alike, read_examples
    from lorameta.data.split import split_examples

    called = {name: bank.records[name].task or name for name in bank.ids}
    DataError.raise_if(
        unsafe_ids(sorted(set(called.values()))), f"the bank {bank.name} names tasks whose files are not looked for:"
    )
    files = {name: tasks / f"{task}.jsonl" for name, task in called.items()}
    if missing := [path.name for path in files.values() if not path.is_file()]:
        raise DataError(f"{tasks} lacks the rows of {len(missing)} tasks: {', '.join(missing[:5])}")
    parts, reads = {}, []
    for name, path in files.items():
        examples, report = read_examples(path, **reading.as_dict())
        parts[name] = split_examples(bank.prompts(examples))
        reads.append(report)
    for line in read_alike(reads):
        typer.echo(f"{line}.", err=True)
    return parts
