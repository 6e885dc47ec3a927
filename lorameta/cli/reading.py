"""The command line's options on rows, and the line that says what was made of their columns."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lorameta.cli import common
from lorameta.cli.options import Verb, in_place_of, option
from lorameta.errors import UsageError

if TYPE_CHECKING:
    from lorameta.data import Example, HubDataset, ReadOptions, ReadReport


def _option(name: str, metavar: str, text: str, kind: Any = str | None, default: Any = None) -> inspect.Parameter:
    shown = typer.Option(f"--{name.replace('_', '-')}", metavar=metavar, help=text, show_default=bool(default))
    return option(name, kind, shown, default)


_OPTIONS = (
    _option("input_column", "NAME", "The column that holds the prompt."),
    _option("output_column", "NAME", "The column that holds the answer."),
    _option("context_column", "NAME", "A column that stands before the prompt; may be repeated.", list[str] | None),
    _option("ignore_column", "NAME", "A column to leave out; may be repeated.", list[str] | None),
    _option("encoding", "NAME", "The text encoding of DATA.", str, "utf-8"),
    _option("delimiter", "CHAR", "What separates the fields of a table: a character, tab, comma, semicolon or pipe."),
    _option("quoting", "NAME", "Whether quotes enclose the fields of a table: auto, minimal, none.", str, "auto"),
    _option("config", "NAME", "Of a dataset of the Hub (author/name in place of DATA) that has several."),
    _option("split", "NAME", "Of a dataset of the Hub: train by default."),
    _option("data_revision", "REV", "Of a dataset of the Hub: a commit, branch or tag; the newest by default."),
    _option("max_rows", "N", "Rows that are taken of a dataset of the Hub: 10000 by default.", int | None),
)  # fmt: skip

#: Field of `HubDataset` → option.
_HUB = {"config": "config", "split": "split", "revision": "data_revision", "max_rows": "max_rows"}


@dataclass
class Reading:
    """How rows are read, and what came of it.

    Attributes
    ----------
    options : dict
        Arguments of :func:`lorameta.data.read_examples`.
    hub : dict
        Fields of :class:`lorameta.data.HubDataset`.
    report : ReadReport or None
        Of the rows that were read first.
    """

    options: dict[str, Any] = field(default_factory=dict)
    hub: dict[str, Any] = field(default_factory=dict)
    report: ReadReport | None = None

    def rows(self, data: Sequence[Path] | Path, *, labelled: bool = False) -> list[Example]:
        """Read rows and print, on the standard error, what was made of their columns."""
        from lorameta.data import read_examples

        source: Any = data if isinstance(data, Path) else list(data) if len(data) > 1 else data[0]
        if self.hub:
            source = self._of_hub(source)
        examples, report = read_examples(source, require_output=labelled, **self.options)
        typer.echo(report.line(), err=True)
        self.report = self.report or report
        return examples

    def _of_hub(self, source: Any) -> HubDataset:
        from lorameta.data.hub import HubDataset, hub_name

        name = hub_name(source)
        if name is None:
            options = ", ".join(f"--{_HUB[key]}".replace("_", "-") for key in self.hub)
            raise UsageError(f"{options}: for a dataset of the Hub, author/name; {source} is none")
        return HubDataset(name, **self.hub)

    def facts(self, *, only_read: bool = False) -> dict[str, Any]:
        """Return what ``--json`` says of the rows; `only_read` leaves out what they are called."""
        if self.report is None:
            return {}
        about = {"read": self.report.as_dict()}
        return about if only_read else {"data": self.report.source, **about}

    def for_files(self) -> ReadOptions:
        """Return the options, for functions that read files themselves."""
        from lorameta.data import ReadOptions

        return ReadOptions(**self.options)

    def flags(self) -> dict[str, Any]:
        """Return the options that were set, for :func:`lorameta.cli.common.flags`."""
        names = {"context_columns": "context_column", "ignore_columns": "ignore_column"}
        default = {"encoding": "utf-8", "quoting": "auto"}
        own = {names.get(name, name): value or None for name, value in self.options.items()
               if value != default.get(name)}  # fmt: skip
        return own | {_HUB[name]: value for name, value in self.hub.items()}


def with_file_reading(command: Verb) -> Verb:
    """Like :func:`with_reading`, without the options on datasets of the Hub."""
    return with_reading(command, tuple(one for one in _OPTIONS if one.name not in _HUB.values()))


def with_reading(command: Verb, options: Sequence[inspect.Parameter] = _OPTIONS) -> Verb:
    """Give a command, in place of its parameter `reading`, the options that say how rows are read."""

    def gathered(found: dict[str, Any]) -> Reading:
        several = {f"{name}s": tuple(found.pop(name) or ()) for name in ("context_column", "ignore_column")}
        hub = {name: value for name, flag in _HUB.items() if (value := found.pop(flag, None)) is not None}
        return Reading(found | several, hub)

    return in_place_of("reading", options, gathered)(command)


def named(data: Sequence[Path]) -> str:
    """Return files as one would type them."""
    return " ".join(common.quoted(path) for path in data)
