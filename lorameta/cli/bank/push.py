"""`lorameta bank push`: a bank on the Hub, so that others need not read its datasets."""

from __future__ import annotations

from typing import Annotated

import typer

from lorameta.cli import common
from lorameta.cli.declare import arg, switch
from lorameta.cli.progress import waiting


def push(
    bank: Annotated[str, arg("BANK", "A bank's directory, or its name.")],
    hub_id: Annotated[str, arg("HUB_ID", "author/name; made if it is not there.")],
    private: Annotated[bool, switch("--private", "If it is made: for nobody else to see.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Publish a bank on the Hub. Adapters that are on the Hub stay where they are; others go along."""
    from lorameta.bank_builder.hub.push import push_bank

    with waiting("pushing"):
        pushed = push_bank(common.open_bank(bank), hub_id, private=private or None)
    if as_json:
        common.print_json({"bank": bank, **vars(pushed), "total_seconds": common.elapsed()})
        return
    typer.echo(
        f"Published {pushed.files} files ({common.file_size(pushed.bytes)}) at {pushed.url}.\n"
        f"Others get it with: lorameta bank pull {pushed.repo}"
    )
