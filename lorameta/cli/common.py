"""What the verbs share: their options, how they print, how they fail."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli.declare import arg, opt, switch
from lorameta.errors import LorametaError, LorametaWarning, UsageError, printable, told

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank

#: The bank that is taken where none is named, as :data:`lorameta.bank.locate.DEFAULT`.
DEFAULT_BANK = "smollm2"
#: Banks that belong to lorameta.
SHIPPED = ("embedded", "tiny", "smollm2")
STARTED = time.perf_counter()
debugging = False


def _set_offline(value: bool) -> bool:
    if value:  # read by huggingface_hub, datasets and transformers when they are imported, which is later
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    return value


def _set_debug(value: bool) -> bool:
    global debugging
    debugging = debugging or value
    return value


Data = Annotated[
    list[Path],
    arg(
        "DATA...",
        "Your rows: .jsonl, .json, .csv, .tsv or .parquet files, also packed (.gz, .zst), a folder or a pattern.",
    ),
]
Bank = Annotated[
    str,
    opt(
        "NAME",
        "The bank: the one that comes with lorameta, a directory, lots-of-loras, or author/name of the Hub.",
        "--bank",
    ),
]
Seed = Annotated[int, opt(None, "Seed of the sample of embeddings, of search, and of the rows it draws.")]
AsJson = Annotated[bool, switch("--json", "Print one JSON object for machines instead of text.")]
Offline = Annotated[
    bool,
    switch(
        "--offline",
        "Open no network connection: use what is here.",
        callback=_set_offline,
        is_eager=True,
        expose_value=False,
    ),
]
Debug = Annotated[
    bool,
    switch(
        "--debug",
        "Show the traceback of an error.",
        envvar="LORAMETA_DEBUG",
        callback=_set_debug,
        is_eager=True,
        expose_value=False,
    ),
]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were set: those left out keep the default of the function they are handed to."""
    return {name: value for name, value in options.items() if value is not None}


def flags(**options: Any) -> str:
    """Return the options that were set, as one would type them after a command; a default bank needs no mention."""
    words = []
    for name, value in given(**options).items():
        if (name, value) not in (("bank", DEFAULT_BANK), ("encoding", "utf-8")):
            for one in value if isinstance(value, tuple | list) else [value]:
                words += [f"--{name.replace('_', '-')}", quoted(one)]
    return "".join(f" {word}" for word in words)


def file_size(count: int) -> str:
    """Return the bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def open_bank(name: str) -> AdapterBank:
    """Return the bank of `--bank`; what is fetched of it later shows a bar."""
    from lorameta.bank import AdapterBank
    from lorameta.bank.hub import fetch
    from lorameta.cli.progress import counting

    fetch.counting = counting
    return AdapterBank.open(name)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on the standard output: valid for every parser, so no NaN."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None if value != value else "inf" if value > 0 else "-inf"
    return value


def elapsed() -> float:
    """Return the seconds since the command started."""
    return round(time.perf_counter() - STARTED, 2)


def peak_memory() -> int | None:
    """Return the largest resident memory of this process in MB; None where the system does not tell (Windows)."""
    from lorameta.machine.peak import peak_memory as peak

    return peak()


def costs() -> dict[str, Any]:
    """Return what a command took, for ``--json``."""
    return {"total_seconds": elapsed(), "peak_memory_mb": peak_memory()}


def bytes_of(size: str | None) -> int | None:
    """Return the value of ``--shard-size``, as ``4GB``, ``500 MB`` or ``1000000``, in bytes."""
    if size is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", size, flags=re.IGNORECASE)
    count = int(float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " ")) if match else 0
    if count < 1:
        raise UsageError(f"--shard-size {size!r} is no size; give e.g. 4GB or 500MB")
    return count


def quoted(value: object) -> str:
    """`value` as one word of a shell command."""
    return shlex.quote(str(value))


def command() -> str:
    """Return the command line for a card, as Markdown: of paths that only this machine has, the last part alone."""
    words = []
    for word in sys.argv[1:]:
        option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        local = Path(value).is_absolute() or value.startswith("~")
        words.append(f"{option}{equals}{Path(value).name if local else value}")
    return "`" + printable(" ".join(shlex.join(["lorameta", *words]).split())).replace("`", "'") + "`"


class _Plain:
    """A text stream that shows what others wrote into names and rows, and lets none of it control the terminal."""

    def __init__(self, stream: Any) -> None:
        self.raw_stream = stream

    def write(self, text: str) -> int:
        return self.raw_stream.write(printable(text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw_stream, name)


def use_plain_output() -> None:
    """Never die of a character that the terminal cannot show, nor obey one: datasets hold every kind of text."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    if not isinstance(sys.stdout, _Plain):
        sys.stdout, sys.stderr = _Plain(sys.stdout), _Plain(sys.stderr)  # type: ignore[assignment]
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Our warnings as one line; those of other libraries are for developers, and shown with --debug only."""
    if issubclass(category, LorametaWarning):
        typer.echo(f"lorameta: warning: {message}", err=True)
    elif debugging:
        typer.echo(f"{category.__name__}: {message}", err=True)


def fail(error: Exception) -> int:
    """Print an error without its traceback and return the exit code."""
    if isinstance(error, OSError) and not isinstance(error, LorametaError):
        from lorameta.files.links import reason

        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        error = LorametaError(f"{place}{reason(error)}")
    typer.echo(told(error), err=True)
    return error.exit_code if isinstance(error, LorametaError) else 1
