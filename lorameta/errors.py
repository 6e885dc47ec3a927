"""The errors that lorameta raises. Each says what happened, where, and what to do; the CLI makes exit codes of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

#: Characters that a terminal obeys instead of showing: C0 and C1 controls, marks that reorder text, halves of surrogate
#: pairs. Line feed and tab are text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a text that a terminal shows and does not obey: what controls it is written as in JSON, e.g. ``\\u001b``.

    Names, licences and paths come from files that others wrote; whatever of them is printed passes through here.
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def markdown(text: object) -> str:
    """Return a text on one line that Markdown shows as it is: no link, image, HTML, table cell or heading comes of it.

    An underscore inside a word is left alone, as it means nothing there.
    """
    line = printable(" ".join(str(text).split()))
    return re.sub(r"[\\`*\[\]<>|~]|&(?=#?\w+;)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[#+-]", r"\\\g<0>", line)


class LorametaError(Exception):
    """Something failed that the caller may want to catch; the command line ends with `exit_code`."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(one) if isinstance(one, str) else one for one in args))

    @classmethod
    def raise_if(cls, problems: list[str], heading: str, remedy: str = "") -> None:
        """Raise an error that lists the problems, see :func:`violations`, if there are any."""
        if problems:
            raise cls(violations(problems, heading, remedy))


class UsageError(LorametaError, ValueError):
    """An option has a value that cannot work."""

    exit_code = 2


class DataError(LorametaError, ValueError):
    """The dataset cannot be read as examples; the message names file and row."""

    exit_code = 2


class BankError(LorametaError, ValueError):
    """A bank or one of its adapters is missing, damaged or made for another base."""

    exit_code = 2


class MissingExtraError(LorametaError, ImportError):
    """An optional dependency is not installed; the message is the pip command that installs it."""

    exit_code = 2

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs {package}. Install it with: pip install "lorameta[{extra}]"')


@contextmanager
def requires(package: str | None, extra: str, purpose: str) -> Iterator[None]:
    """Raise MissingExtraError where an import inside the block fails.

    Without a `package` the message names the module that could not be imported.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(package or error.name or extra, extra, purpose) from error


class LorametaWarning(UserWarning):
    """Something works, but less well than the caller may expect; shown once by Python's warning filter."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(one) if isinstance(one, str) else one for one in args))


def violations(errors: list[str], heading: str, remedy: str = "") -> str:
    """One message out of many: a heading, a line for each violation (the first twenty), and what to do."""
    lines = [f"  - {error}" for error in errors[:20]]
    if len(errors) > 20:
        lines.append(f"  - ... and {len(errors) - 20} more")
    return "\n".join([heading, *lines, *([remedy] if remedy else [])])


def told(error: Exception) -> str:
    """Return what a user is told of an error, in the terminal and in the page alike."""
    if isinstance(error, LorametaError | OSError):
        return f"lorameta: {error}"
    return (
        f"lorameta: unexpected {type(error).__name__}: {error}\n"
        "This is a fault of lorameta, not yours. Run it again with --debug to see where, and please report it."
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")[:300]
