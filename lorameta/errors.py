"""The errors that lorameta raises. Each says what happened, where, and what to do; the CLI makes exit codes of them."""

from __future__ import annotations


class LorametaError(Exception):
    """Something failed that the caller may want to catch; the command line ends with `exit_code`."""

    exit_code = 1


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


class LorametaWarning(UserWarning):
    """Something works, but less well than the caller may expect; shown once by Python's warning filter."""


def violations(errors: list[str], heading: str, remedy: str = "") -> str:
    """One message out of many: a heading, a line for each violation (the first twenty), and what to do."""
    lines = [f"  - {error}" for error in errors[:20]]
    if len(errors) > 20:
        lines.append(f"  - ... and {len(errors) - 20} more")
    return "\n".join([heading, *lines, *([remedy] if remedy else [])])
