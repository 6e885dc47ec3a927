"""`lorameta ui`: the page in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from lorameta.cli import common


def ui(
    bank: common.Bank = common.DEFAULT_BANK,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, metavar="N", help="Of the address; the first free one from 7860 by default."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in your browser.")] = False,
) -> None:
    """Open a page on this machine: drop a file, generate an adapter, ask it, take it along.

    It is served to 127.0.0.1 alone; nothing is shared or sent. Ctrl-C ends it.
    """
    from lorameta.ui import serve

    page = serve(bank, port=port, browser=browser)
    typer.echo(f"The page is at {page.url} (Ctrl-C ends it).")
    page.wait()
