"""`lorameta finetune`: a base and rows in, a LoRA adapter trained from scratch out."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from lorameta.cli import common, html, training
from lorameta.cli.options import options_of
from lorameta.cli.progress import waiting
from lorameta.training.options import RefineSettings


@options_of(RefineSettings, "settings")
def finetune(
    *,
    data: training.Rows,
    base: Annotated[
        str,
        typer.Option("--base", "-b", metavar="MODEL", help="The base: a directory or a Hub id.", show_default=False),
    ],
    output: training.Output,
    revision: Annotated[str | None, typer.Option(metavar="REV", help="Of a base on the Hub.")] = None,
    validation: training.Validation = None,
    settings: RefineSettings,
    log: training.LogFile = None,
    dry_run: training.DryRun = False,
    fresh: training.Fresh = False,
    input_column: common.InputColumn = None,
    output_column: common.OutputColumn = None,
    encoding: common.Encoding = "utf-8",
    force: training.Force = False,
    html_file: html.File = None,
    as_json: common.AsJson = False,
    offline: common.Offline = False,
    debug: common.Debug = False,
) -> None:
    """Train a LoRA adapter from scratch on your rows: the baseline of what is generated or refined.

    The best state is the one with the lowest loss on rows that are held out.
    """
    meter = html.start(html_file)
    training.check_output(output, force)
    with ExitStack() as stack:
        with waiting("preparing"):
            from lorameta.training import prepared

            job = stack.enter_context(
                prepared(
                    data, base, settings, revision=revision, validation=validation, log=log, fresh=fresh,
                    checkpoint=None if dry_run else training.state_of(output),
                    input_column=input_column, output_column=output_column, encoding=encoding,
                )
            )  # fmt: skip
        facts = {"data": str(data), "base_model": base}
        training.carry_out(
            job,
            output,
            dry_run=dry_run,
            as_json=as_json,
            facts=facts,
            verb="finetune",
            html_file=html_file,
            meter=meter,
        )
