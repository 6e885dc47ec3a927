"""`lorameta push`: an adapter on the Hub, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorameta.cli import common
from lorameta.cli.declare import arg, opt, switch
from lorameta.cli.progress import waiting


def push(
    adapter: Annotated[Path, arg("ADAPTER", "A PEFT directory.")],
    hub_id: Annotated[str, arg("HUB_ID", "author/name; made if it is not there.")],
    base: Annotated[
        str | None, opt("HUB_ID", "What the base is called on the Hub, if the adapter names a directory.")
    ] = None,
    private: Annotated[bool, switch("--private", "If it is made: for nobody else to see.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Publish an adapter and its card on the Hub."""
    from lorameta.bank_builder.hub.push import push_adapter

    with waiting("pushing"):
        pushed = push_adapter(adapter, hub_id, base=base, private=private or None)
    if as_json:
        common.print_json({"adapter": str(adapter), **vars(pushed), "total_seconds": common.elapsed()})
        return
    typer.echo(f"Published {pushed.files} files ({common.file_size(pushed.bytes)}) at {pushed.url}.")
