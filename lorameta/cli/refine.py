"""`lorameta refine`: an adapter and rows in, the adapter after some gradient steps out."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lorameta.cli import common, html, training
from lorameta.cli.options import options_of
from lorameta.cli.progress import waiting
from lorameta.cli.reading import with_reading
from lorameta.training.options import RefineSettings


@options_of(RefineSettings, "settings")
@with_reading
def refine(
    *,
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
    settings: RefineSettings,
    log: training.LogFile = None,
    dry_run: training.DryRun = False,
    fresh: training.Fresh = False,
    reading: Any = None,
    force: training.Force = False,
    html_file: html.File = None,
    as_json: common.AsJson = False,
) -> None:
    """Train an adapter further on your rows, for as long as you say, and write the best state as a new adapter.

    The best state is the one with the lowest loss on rows that are held out, the given adapter included: the result is
    never worse there. ADAPTER itself is not changed.
    """
    meter = html.start(html_file)
    training.check_output(output, force, adapter)
    rows = reading.rows(data, labelled=True)
    held = None if validation is None else reading.rows(validation, labelled=True)
    with ExitStack() as stack:
        with waiting("preparing"):
            from lorameta.adapter import Adapter
            from lorameta.training import prepared

            start = Adapter.from_pretrained(adapter)
            job = stack.enter_context(
                prepared(
                    rows, base, settings, start=start, validation=held, log=log, fresh=fresh,
                    checkpoint=None if dry_run else training.state_of(output),
                )
            )  # fmt: skip
        facts = reading.facts() | {"start": str(adapter), "base_model": start.base_model}
        training.carry_out(
            job,
            output,
            dry_run=dry_run,
            as_json=as_json,
            facts=facts,
            verb="refine",
            side_by_side=partial(html.side_by_side, examples=rows, base=base),
            html_file=html_file,
            meter=meter,
            options=common.flags(base=base or start.base_model, **reading.flags()),
        )
