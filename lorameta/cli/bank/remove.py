"""`lorameta bank remove`: adapters taken out of a bank."""

from __future__ import annotations

from typing import Annotated

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import outdated, show_outdated
from lorameta.cli.declare import arg


def remove(
    bank: Annotated[str, arg("BANK", "A bank's directory.")],
    ids: Annotated[list[str], arg("ID...", "The adapters to take out.")],
    as_json: common.AsJson = False,
) -> None:
    """Take adapters out of a bank. Their files stay for an hour, for those who read it; a later change deletes them."""
    from lorameta.bank import AdapterBank
    from lorameta.bank_builder.members import remove as take_out

    opened = common.open_bank(bank)
    shards = take_out(opened, ids)
    now = AdapterBank.open(opened.path)
    stale = outdated(now)
    if as_json:
        common.print_json(
            {
                "bank": now.name,
                "removed": sorted(set(ids)),
                "adapters": len(now),
                "shards": list(shards),
                "invalid": [one.file for one in stale],
            }
        )
        return
    typer.echo(f"Removed {', '.join(sorted(set(ids)))} from the bank {now.name}, which has {len(now)} adapters now.")
    if shards:
        typer.echo(f"note: {', '.join(shards)} still holds their bytes, beside adapters that remain")
    show_outdated(stale)
