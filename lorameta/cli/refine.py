"""`lorameta refine`: an adapter and rows in, the adapter after some gradient steps out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from lorameta.cli import common, training
from lorameta.cli.progress import waiting


def refine(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="The adapter to start from: a PEFT directory.", show_default=False)
    ],
    data: training.Rows,
    output: training.Output,
    base: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The base: a directory or a Hub id; by default the one the adapter names."),
    ] = None,
    validation: training.Validation = None,
    epochs: training.Epochs = None,
    steps: training.Steps = None,
    minutes: training.Minutes = None,
    rank: training.Rank = None,
    alpha: training.Alpha = None,
    targets: training.Targets = None,
    top_layers: training.TopLayers = None,
    learning_rate: training.LearningRate = None,
    batch_size: training.BatchSize = None,
    micro_batch_size: training.MicroBatchSize = None,
    dropout: training.Dropout = 0.0,
    max_length: training.MaxLength = 1024,
    precision: training.Precision = "auto",
    checkpointing: training.Checkpointing = None,
    threads: training.Threads = None,
    save_minutes: training.SaveMinutes = 5.0,
    seed: training.Seed = 0,
    log: training.LogFile = None,
    dry_run: training.DryRun = False,
    fresh: training.Fresh = False,
    input_column: common.InputColumn = None,
    output_column: common.OutputColumn = None,
    encoding: common.Encoding = "utf-8",
    force: training.Force = False,
    as_json: common.AsJson = False,
    offline: common.Offline = False,
    debug: common.Debug = False,
) -> None:
    """Train an adapter further on your rows, for as long as you say, and write the best state as a new adapter.

    The best state is the one with the lowest loss on rows that are held out, the given adapter included: the result is
    never worse there. ADAPTER itself is not changed.
    """
    training.check_output(output, force, adapter)
    with ExitStack() as stack:
        with waiting("preparing"):
            from lorameta.adapter import Adapter
            from lorameta.training import prepared

            start = Adapter.from_pretrained(adapter)
            settings = training.settings(
                targets, epochs=epochs, steps=steps, minutes=minutes, rank=rank, alpha=alpha, top_layers=top_layers,
                learning_rate=learning_rate, batch_size=batch_size, micro_batch_size=micro_batch_size, dropout=dropout,
                max_length=max_length, precision=precision, checkpointing=checkpointing, threads=threads,
                save_minutes=save_minutes, seed=seed,
            )  # fmt: skip
            job = stack.enter_context(
                prepared(
                    data, base, settings, start=start, validation=validation, log=log, fresh=fresh,
                    checkpoint=None if dry_run else training.state_of(output),
                    input_column=input_column, output_column=output_column, encoding=encoding,
                )
            )  # fmt: skip
        facts = {"data": str(data), "start": str(adapter), "base_model": start.base_model}
        training.carry_out(job, output, dry_run=dry_run, as_json=as_json, facts=facts)
