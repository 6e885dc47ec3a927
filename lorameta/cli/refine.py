"""`lorameta refine`: an adapter and rows in, the adapter after some gradient steps out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from lorameta.cli import common, html, training
from lorameta.cli.declare import arg, opt
from lorameta.cli.options import options_of
from lorameta.cli.reading import with_reading
from lorameta.training.options import RefineSettings


@options_of(RefineSettings, "settings")
@with_reading
def refine(
    *,
    adapter: Annotated[Path, arg("ADAPTER", "The adapter to start from: a PEFT directory.")],
    data: training.Rows,
    output: training.Output,
    base: Annotated[
        str | None, opt("MODEL", "The base: a directory or a Hub id; by default the one the adapter names.")
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
    training.train(
        "refine", data, output, settings, base=base, adapter=adapter, validation=validation, log=log, dry_run=dry_run,
        fresh=fresh, reading=reading, force=force, html_file=html_file, as_json=as_json,
    )  # fmt: skip
