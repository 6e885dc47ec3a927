"""`lorameta finetune`: a base and rows in, a LoRA adapter trained from scratch out."""

from __future__ import annotations

from typing import Annotated, Any

from lorameta.cli import common, html, training
from lorameta.cli.declare import opt
from lorameta.cli.options import options_of
from lorameta.cli.reading import with_reading
from lorameta.training.options import RefineSettings


@options_of(RefineSettings, "settings")
@with_reading
def finetune(
    *,
    data: training.Rows,
    base: Annotated[str, opt("MODEL", "The base: a directory or a Hub id.", "--base", "-b")],
    output: training.Output,
    revision: Annotated[str | None, opt("REV", "Of a base on the Hub.")] = None,
    validation: training.Validation = None,
    settings: RefineSettings,
    log: training.LogFile = None,
    dry_run: training.DryRun = False,
    fresh: training.Fresh = False,
    reading: Any = None,
    force: training.Force = False,
    html_file: html.File = None,
    as_json: common.AsJson = False,
) -> None:
    """Train a LoRA adapter from scratch on your rows: the baseline of what is generated or refined.

    The best state is the one with the lowest loss on rows that are held out.
    """
    training.train(
        "finetune", data, output, settings, base=base, revision=revision, validation=validation, log=log,
        dry_run=dry_run, fresh=fresh, reading=reading, force=force, html_file=html_file, as_json=as_json,
    )  # fmt: skip
