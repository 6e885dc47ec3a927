"""`lorameta bank`: one verb a file."""

from __future__ import annotations

import typer

from lorameta.cli.bank.check import check
from lorameta.cli.bank.fit import fit
from lorameta.cli.bank.info import info
from lorameta.cli.bank.list import list_adapters

app = typer.Typer(
    help="Look into a bank of adapters (info, list, check), or fit the neural operator to it (fit).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("info")(info)
app.command("list")(list_adapters)
app.command("check")(check)
app.command("fit")(fit)
