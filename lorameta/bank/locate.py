"""Where a bank is that was named: the embedded one, a directory, or an index in the cache directory of this machine."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from lorameta.bank.hub.presets import PRESETS
from lorameta.errors import BankError, UsageError
from lorameta.files.cache import cache_directory
from lorameta.files.links import is_directory, is_file, user_path
from lorameta.files.shipped import DISTRIBUTED, TINY, shipped_path

#: An older name of the bank `tiny`.
EMBEDDED = "embedded"
#: The bank that is taken where none is named.
DEFAULT = "smollm2"
#: Says that a name is an id of the Hub, where it could be a path too.
PREFIX = "hub:"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_HUB_ID = re.compile(rf"{_PART}/{_PART}")


def hub_id(name: str) -> str | None:
    """Return the id that ``author/name`` or ``hub:author/name`` stands for; None if it can be none."""
    text = name.removeprefix(PREFIX)
    return text if _HUB_ID.fullmatch(text) and ".." not in text and "--" not in text else None


def require_hub_id(name: str, what: str = "a repository") -> str:
    """As :func:`hub_id`; UsageError if it is none."""
    found = hub_id(name)
    if found is None:
        raise UsageError(f"{name!r} is no id of {what} on the Hub; those look like author/name")
    return found


def cached_bank(name: str) -> Path:
    """Return the directory in the cache for the index of a preset, or of a bank on the Hub."""
    return cache_directory() / "banks" / name.removeprefix(PREFIX).replace("/", "--")


def locate(name: str | os.PathLike[str]) -> Path:
    """Return the directory of a bank.

    Parameters
    ----------
    name : path or str
        "smollm2"; "tiny", also called "embedded"; a directory (or its ``bank.json``), the name of a preset, or the id
        of a bank on the Hub, also as ``hub:author/name``. A directory is preferred to a bank on the Hub.

    Raises
    ------
    BankError
        There is no such bank on this machine; with the command that gets it, if there is one.
    """
    text = os.fspath(name)
    if text in (TINY, EMBEDDED, *DISTRIBUTED):
        return shipped_path(TINY if text == EMBEDDED else text)
    path = user_path(text)
    if not text.startswith(PREFIX):
        if is_file(path) and path.name == "bank.json":
            return path.parent
        if is_directory(path):
            return path
    known = text in PRESETS
    if known or hub_id(text):
        place = cached_bank(text)
        if (place / "bank.json").is_file():
            return place
        if known:
            raise BankError(
                f"the bank {text!r} is not on this machine yet; make its index once, with: "
                f"lorameta bank build --preset {text}"
            )
        raise BankError(
            f"there is no bank {text!r}: no such directory; if it is a bank on the Hub, get its index once, with: "
            f"lorameta bank pull {hub_id(text)}"
        )
    near = difflib.get_close_matches(text, [*DISTRIBUTED, TINY, EMBEDDED, *PRESETS], n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    raise BankError(
        f"there is no bank {text!r}: no such directory; give the directory of a bank, or the name of one: "
        f"{', '.join([*DISTRIBUTED, TINY, *PRESETS])}.{meant}"
    )
