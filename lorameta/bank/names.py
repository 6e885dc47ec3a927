"""Which ids and paths a bank may have: they become names of files, on any system."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from lorameta.errors import UsageError

#: Length of an id at most.
MAX_ID = 128
#: Bytes of one part of a path, and parts, at most: what every file system takes.
MAX_PART, MAX_PARTS = 200, 16
_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_ID - 1}}}")
#: Names that Windows gives to devices; a bank must unpack there too.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


def unsafe_ids(ids: list[str]) -> list[str]:
    """Return what is wrong with a bank's ids: they become file names on any system."""
    problems = []
    seen: dict[str, str] = {}
    for one in ids:
        if not _ID.fullmatch(one) or ".." in one or one.endswith(".") or one.split(".")[0].lower() in _DEVICES:
            problems.append(f"the id {one!r} is no safe file name; use letters, digits, '.', '_' and '-'")
        other = seen.get(one.lower())
        if other is not None:
            how = "is there twice" if other == one else f"differs from {other!r} in case only"
            problems.append(f"the id {one!r} {how}; rename one")
        seen[one.lower()] = one
    return problems


def require_known(bank: str, ids: Iterable[str], known: Collection[str]) -> None:
    """Raise UsageError for ids that are not among those of a bank of this name."""
    if unknown := [name for name in ids if name not in known]:
        near = [match for name in unknown for match in difflib.get_close_matches(str(name), known, n=2)]
        hint = f"did you mean {', '.join(dict.fromkeys(near))}?" if near else f"it has {len(known)} others"
        raise UsageError(f"the bank {bank} has no adapter {', '.join(map(repr, unknown))}; {hint}")


def unsafe_path(path: str) -> list[str]:
    """Return what is wrong with a path that must lead to a file of the bank."""
    parts = PurePosixPath(path).parts
    if not path or "\\" in path or "\0" in path or ":" in path or path.startswith("/") or {"..", "~"} & set(parts):
        return [f"the path {path[:200]!r} leads out of the bank; it must be relative, with '/', without '..'"]
    if any(part.startswith(".") for part in path.split("/")):
        return [f"the path {path[:200]!r} is hidden; no part of it may begin with '.'"]
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return [f"the path {path[:200]!r} is no text that every system can write"]
    if longest > MAX_PART or len(parts) > MAX_PARTS:
        return [f"the path {path[:40]!r}... is too long; a name has at most {MAX_PART} bytes"]
    return []
