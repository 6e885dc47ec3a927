"""Settings that document themselves: one text per field, for the class, for the command line and for nobody else."""

from __future__ import annotations

import textwrap
from dataclasses import field, fields
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


def setting(default: Any, help: str, *, metavar: str | None = None, flag: str | None = None) -> Any:
    """Declare a field of a dataclass of settings.

    Parameters
    ----------
    default : Any
        Immutable.
    help : str
        What it means, as a sentence; it says what None stands for.
    metavar : str, optional
        What stands for the value in the help of the command line.
    flag : str, optional
        The options of the command line, where they are not the name of the field.
    """
    return field(default=default, metadata={"help": help, "metavar": metavar, "flag": flag})


def same_as(settings: type, name: str) -> Any:
    """Declare a field with the default and the texts of one of another class of settings."""
    one = next(one for one in fields(settings) if one.name == name)
    return field(default=one.default, metadata=one.metadata)


def documented(settings: T) -> T:
    """Write the section `Attributes` of a dataclass of settings from the texts of its fields."""
    lines = ["", "Attributes", "----------"]
    for one in fields(settings):
        lines.append(f"{one.name} : {one.type}, default {one.default!r}")
        lines.append(textwrap.fill(one.metadata["help"], 110, initial_indent="    ", subsequent_indent="    "))
    head, _, rest = textwrap.dedent("    " + (settings.__doc__ or "")).partition("\n\nRaises\n")
    settings.__doc__ = "\n".join([head.rstrip(), *lines, *(["", "Raises", *rest.splitlines()] if rest else [])]) + "\n"
    return settings
