"""`lorameta bank pull`: the index of a bank that somebody published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import made_facts
from lorameta.cli.declare import arg, opt
from lorameta.cli.progress import counting


def pull(
    hub_id: Annotated[str, arg("HUB_ID", "author/name of a bank on the Hub.")],
    output: Annotated[
        Path | None,
        opt("DIR", "Where it goes; by default the place in the cache where --bank HUB_ID finds it.", "--output", "-o"),
    ] = None,
    revision: Annotated[str | None, opt("REV", "A branch, a tag or a commit; the newest by default.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Get the index of a bank from the Hub: records, summaries, tokenizer; no dataset, no adapter.

    Adapters are fetched when a mix first needs them. Pull again to bring an index up to date.
    """
    from lorameta.bank.hub.pull import pull as get

    pulled = get(hub_id, output, revision=revision, counting=counting)
    if as_json:
        common.print_json(made_facts(pulled))
        return
    name = pulled.path if output is not None else pulled.repo
    typer.echo(
        f"Pulled the index of {pulled.adapters} adapters ({common.file_size(pulled.bytes)}) into {pulled.path}.\n"
        f"Use it with: lorameta generate DATA --bank {common.quoted(name)} -o ADAPTER"
    )
