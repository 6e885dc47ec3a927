"""The help desk dataset and the demonstration that is run on it."""

from __future__ import annotations

from pathlib import Path

from lorameta.errors import UsageError

_HERE = Path(__file__).resolve().parent


def path(name: str) -> Path:
    """Return where a dataset of this folder lies.

    Parameters
    ----------
    name : str
        ``"helpdesk_train.jsonl"`` or ``"helpdesk_test.jsonl"``.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    UsageError
        There is no such dataset; the message lists those that there are.
    """
    files = {file.name: file for file in sorted(_HERE.glob("*.jsonl"))}
    if name not in files:
        raise UsageError(f"there is no example dataset {name!r}; there are {', '.join(files)}")
    return files[name]
