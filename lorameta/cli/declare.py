"""Short forms of `typer.Option` and `typer.Argument`: what stands for the value, then the text of the help."""

from __future__ import annotations

from typing import Any

import typer


def arg(metavar: str, text: str) -> Any:
    """Declare an argument."""
    return typer.Argument(metavar=metavar, help=text)


def opt(metavar: str | None, text: str, *names: str, **more: Any) -> Any:
    """Declare an option with a value; without `names` it is called as its parameter, with hyphens."""
    return typer.Option(*names, metavar=metavar, help=text, **more)


def switch(name: str, text: str, **more: Any) -> Any:
    """Declare an option without a value."""
    return typer.Option(name, help=text, **more)
