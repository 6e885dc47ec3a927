"""The command line's options on distances and operators, taken from their tables: what is added there has its own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lorameta.cli.declare import opt
from lorameta.cli.options import Verb, in_place_of, option
from lorameta.distance import NAMES
from lorameta.errors import UsageError
from lorameta.operator import OPERATORS, Option
from lorameta.operator.progress import Progress

#: What `--fast` takes, and the operators that go with it.
FAST = "normalized"
Distance = Annotated[
    str | None,
    opt(
        "NAME",
        f"How datasets are compared: {', '.join(NAMES['tokens'])} (on tokens), "
        f"{', '.join(NAMES['sentence'])} (on sentence embeddings).",
    ),
]
DISTANCES_ALONE = [name for name, operator in OPERATORS.items() if "rows" not in operator.needs]


def with_operators(command: Verb) -> Verb:
    """Give a command, in place of its parameter `weighing`, the options that say how weights are found.

    It is called with ``weighing={"operator": ..., "temperature": ..., "top_k": ..., "operator_options": ...}``, without
    what was not set.
    """
    return in_place_of("weighing", _parameters(), _grouped)(command)


def _parameters() -> list[inspect.Parameter]:
    ways = "auto, the default: by all that labelled rows and --budget allow; " + "; ".join(
        f"{name}: {operator.doc}" for name, operator in OPERATORS.items()
    )
    warm = [f"{name} ({known.temperature:g})" for name, known in OPERATORS.items() if known.temperature is not None]
    whole = [name for name, known in OPERATORS.items() if not known.top_k]
    about = {
        "operator": (str, "--operator", "NAME", f"How weights are found. {ways}."),
        "temperature": (
            float, "--temperature", "T",
            f"0 is the nearest adapter alone, inf the uniform average. For {', '.join(warm)}.",
        ),
        "top_k": (int, "--top-k", "K", f"Keep the K largest weights only. Not for {', '.join(whole)}."),
        "budget": (
            float, "--budget", "SECONDS",
            "What auto may take, in seconds of a machine of two cores. [default: 60]",
        ),
        "fast": (bool, "--fast", None, "Go by the distances alone: no base model is run."),
    }  # fmt: skip
    for name, owners in _options().items():
        one = next(iter(owners.values()))
        kind = str if one.choices else int if one.whole else float
        metavar = "NAME" if one.choices else "N" if one.whole else "X"
        for_whom = ", ".join(f"{owner}{_default(known)}" for owner, known in owners.items())
        text = f"{one.doc[0].upper()}{one.doc[1:]}. For {for_whom}."
        about[name] = (kind, f"--{one.flag or name.replace('_', '-')}", metavar, text)
    return [
        option(
            name,
            kind if kind is bool else kind | None,
            typer.Option(flag, metavar=metavar, help=text, show_default=False),
            False if kind is bool else None,
        )
        for name, (kind, flag, metavar, text) in about.items()
    ]


def _options() -> dict[str, dict[str, Option]]:
    """Return the operators' own options that the command line has: name → operator → option."""
    found: dict[str, dict[str, Option]] = {}
    for operator in OPERATORS.values():
        for name, own in operator.options.items():
            if own.flag is not None:
                found.setdefault(name, {})[operator.name] = own
    return found


def _default(own: Option) -> str:
    if own.default is None:
        return " (all)" if own.whole else ""
    return f" ({own.default:g})" if isinstance(own.default, (int, float)) else f" ({own.default})"


def _grouped(values: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in values.items() if value is not None}
    if given.pop("fast", False) and given.setdefault("operator", FAST) not in DISTANCES_ALONE:
        raise UsageError(f"the operator {given['operator']!r} needs more than distances; leave out --fast")
    own = {name: given.pop(name) for name in list(given) if name in _options()}
    return {**given, **({"operator_options": own} if own else {})}


def flags(weighing: dict[str, Any]) -> dict[str, Any]:
    """Return the options again, by the names that the command line has for them."""
    rest = {name: value for name, value in weighing.items() if name != "operator_options"}
    names = {name: next(iter(owners.values())).flag or name for name, owners in _options().items()}
    return rest | {names[name]: value for name, value in weighing.get("operator_options", {}).items()}


class Bar(Progress):
    """Progress as a bar in the terminal, one for each part of the work that says what it is."""

    def __init__(self) -> None:
        super().__init__()
        self._open: Any = None

    def __call__(self, done: int = 1) -> None:
        """Move the bar on."""
        if self._open is not None:
            self._line(done)

    def start(self, doing: str, total: int | None = None) -> None:
        """Open the next bar."""
        from lorameta.cli.progress import counting

        self.close()
        self._open = counting(doing, total, "passes")
        self._line = self._open.__enter__()

    def close(self) -> None:
        """Close the bar that is open."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None


@contextmanager
def progress(doing: str) -> Iterator[Progress]:
    """Progress of a call of `mix` or `generate_adapter`: bars where the model is run, the seconds elsewhere."""
    from lorameta.cli.progress import waiting

    bar = Bar()
    with waiting(doing):
        try:
            yield bar
        finally:
            bar.close()
