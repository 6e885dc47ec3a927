"""Groups of verbs that import a verb when it is called, so that the help of a group comes at once."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from lorameta.cli import common

_SETTINGS: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None}  # rich takes longer than help does


def group(package: str, verbs: dict[str, str], **settings: Any) -> typer.Typer:
    """Return a group of verbs.

    Parameters
    ----------
    package : str
        Has a module for each verb; in it, a function of the verb's name, or a group that is called ``app``.
    verbs : dict
        Verb → the first sentence of its help.
    **settings
        Of :class:`typer.Typer`.
    """

    class Verbs(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes | {"commands": dict.fromkeys(verbs)})
            self.params += _command(_common).params

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in verbs:
                return None
            module = import_module(f"{package}.{cmd_name}")
            if hasattr(module, "app"):
                return typer.main.get_command(module.app)
            command = _command(getattr(module, cmd_name), cmd_name)
            command.params += _command(_common).params
            return command

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl(list(verbs.items()))

    return typer.Typer(cls=Verbs, no_args_is_help=True, **_SETTINGS, **{"callback": lambda: None, **settings})


def _common(offline: common.Offline = False, debug: common.Debug = False) -> None:
    """Declare the options that every verb and group has."""


def _command(function: Any, name: str | None = None) -> Any:
    app = typer.Typer(**_SETTINGS)
    app.command(name)(function)
    return typer.main.get_command(app)
