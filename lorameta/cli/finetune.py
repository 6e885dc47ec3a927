"""`lorameta finetune`: a base and rows in, a LoRA adapter trained from scratch out."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

import typer

from lorameta.cli import common, html, training
from lorameta.cli.options import options_of
from lorameta.cli.progress import waiting
from lorameta.cli.reading import with_reading
from lorameta.training.options import RefineSettings


@options_of(RefineSettings, "settings")
@with_reading
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
    reading: Any = None,
    force: training.Force = False,
    html_file: html.File = None,
    as_json: common.AsJson = False,
) -> None:
    """Train a LoRA adapter from scratch on your rows: the baseline of what is generated or refined.

    The best state is the one with the lowest loss on rows that are held out.
    """
    meter = html.start(html_file)
    training.check_output(output, force)
    rows = reading.rows(data, labelled=True)
    held = None if validation is None else reading.rows(validation, labelled=True)
    with ExitStack() as stack:
        with waiting("preparing"):
            from lorameta.training import prepared

            job = stack.enter_context(
                prepared(
                    rows, base, settings, revision=revision, validation=held, log=log, fresh=fresh,
                    checkpoint=None if dry_run else training.state_of(output),
                )
            )  # fmt: skip
        facts = reading.facts() | {"base_model": base}
        training.carry_out(
            job,
            output,
            dry_run=dry_run,
            as_json=as_json,
            facts=facts,
            verb="finetune",
            side_by_side=partial(html.side_by_side, examples=rows, base=base, revision=revision),
            html_file=html_file,
            meter=meter,
            options=common.flags(base=base, **reading.flags()),
        )
