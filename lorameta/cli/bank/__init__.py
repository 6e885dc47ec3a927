"""`lorameta bank`: one verb a file."""

from __future__ import annotations

import typer

from lorameta.cli.bank.add import add
from lorameta.cli.bank.build import build
from lorameta.cli.bank.check import check
from lorameta.cli.bank.fit import fit
from lorameta.cli.bank.info import info
from lorameta.cli.bank.list import list_adapters
from lorameta.cli.bank.pull import pull
from lorameta.cli.bank.push import push
from lorameta.cli.bank.remove import remove
from lorameta.cli.bank.stack import stack
from lorameta.cli.bank.train import train

app = typer.Typer(
    help="Make a bank of adapters (train, build, add, remove), look into it (info, list, check), change how it is kept "
    "(stack), or fit the neural operator to it (fit).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("info")(info)
app.command("list")(list_adapters)
app.command("check")(check)
app.command("fit")(fit)
app.command("build")(build)
app.command("add")(add)
app.command("remove")(remove)
app.command("stack")(stack)
app.command("train")(train)
app.command("pull")(pull)
app.command("push")(push)
