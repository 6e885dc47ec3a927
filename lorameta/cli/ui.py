"""`lorameta ui`: the page in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from lorameta.cli import common
from lorameta.cli.declare import opt, switch


def ui(
    bank: common.Bank = common.DEFAULT_BANK,
    port: Annotated[
        int | None, opt("N", "Of the address; the first free one from 7860 by default.", min=1, max=65535)
    ] = None,
    browser: Annotated[bool, switch("--browser", "Open the page in your browser.")] = False,
) -> None:
    """Open a page on this machine: drop a file, generate an adapter, ask it, take it along.

    It is served to 127.0.0.1 alone; nothing is shared or sent. Ctrl-C ends it.
    """
    from lorameta.ui import serve

    page = serve(bank, port=port, browser=browser)
    typer.echo(f"The page is at {page.url} (Ctrl-C ends it).")
    page.wait()
