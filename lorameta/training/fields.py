"""Settings that document themselves: one text per field, for the class, for the command line and for nobody else."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
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


#: Tells of a value whether it can work, and what it must be.
Check = tuple[Callable[[Any], bool], str]
POSITIVE: Check = (lambda value: math.isfinite(value) and value > 0, "it must be a positive number")


def at_least(least: int) -> Check:
    """Return the check that a number is finite and not below `least`."""
    return lambda value: math.isfinite(value) and value >= least, f"it must be at least {least}"


def one_of(*names: str) -> Check:
    """Return the check that a text is one of some names."""
    return lambda value: value in names, f"there are {', '.join(names[:-1])} and {names[-1]}"


def violated(settings: Any, checks: Mapping[str, Check]) -> list[str]:
    """Return what is wrong with the values of settings: `checks` has names of fields, and what all but None must be."""
    problems = []
    for names, (good, must) in checks.items():
        for name in names.split():
            value = getattr(settings, name, None)
            if value is not None and not good(value):
                problems.append(f"{name} is {value!r}; {must}")
    return problems


def documented(settings: T) -> T:
    """Write the section `Attributes` of a dataclass of settings from the texts of its fields."""
    lines = ["", "Attributes", "----------"]
    for one in fields(settings):
        lines.append(f"{one.name} : {one.type}, default {one.default!r}")
        lines.append(textwrap.fill(one.metadata["help"], 110, initial_indent="    ", subsequent_indent="    "))
    head, _, rest = textwrap.dedent("    " + (settings.__doc__ or "")).partition("\n\nRaises\n")
    settings.__doc__ = "\n".join([head.rstrip(), *lines, *(["", "Raises", *rest.splitlines()] if rest else [])]) + "\n"
    return settings
