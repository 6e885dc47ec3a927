"""JSON that others wrote, read within limits: of size, depth, number of values, range of numbers, and of texts.

What Python's reader takes and other readers do not, or not as the same, is refused as well: NaN and infinity, a key
that is there twice, halves of surrogate pairs. So whoever gets a value from here can hash, compare and write it.
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

#: Bytes, nesting, lists and objects, and values of a file at most; ten times what the largest bank or tokenizer needs.
MAX_BYTES, MAX_DEPTH, MAX_CONTAINERS, MAX_VALUES = 1 << 26, 64, 1_000_000, 4_000_000
#: Whole numbers lie below this, by size.
MAX_NUMBER = 1 << 63


class JsonError(ValueError):
    """Why a text is refused, as the end of a sentence that begins with the name of the file."""


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file of `limit` bytes at most.

    Raises
    ------
    JsonError
        It is larger, or no regular file: reading a pipe would wait for ever, a device would never end.
    OSError
        It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise JsonError("is no regular file")
        # As many bytes as there are, and one more to see it grow: `read` makes room for all that it is asked for.
        data = b"" if state.st_size > limit else file.read(state.st_size + 1)
    if max(state.st_size, len(data)) > limit:
        raise JsonError(f"has more than the {limit:,} bytes that are read of such a file")
    if len(data) > state.st_size:
        raise JsonError("grew while it was read")
    return data


def decode(data: bytes | str, *, plain: bool = False) -> Any:
    """Return what a JSON text says.

    Parameters
    ----------
    data : bytes or str
        UTF-8, with or without a mark.
    plain : bool
        Allow repeated keys, and leave numbers and texts unchecked: for the large tables of a tokenizer, of which only
        a hash is made.

    Raises
    ------
    JsonError
        It is no JSON, or exceeds a limit.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        if len(text) > MAX_BYTES or text.count("[") + text.count("{") > MAX_CONTAINERS or text.count(",") > MAX_VALUES:
            raise JsonError("holds more than any file of its kind")
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=None if plain else _once)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(f"is nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:
        raise JsonError(f"is not JSON ({error})") from None
    if not plain:
        _check(value, surrogates="\\u" in text)
    return value


def read(path: Path) -> Any:
    """Return what a JSON file says. Raises JsonError and OSError, as above."""
    return decode(read_bytes(path))


def read_object(path: Path, limit: int = MAX_BYTES) -> dict[str, Any] | None:
    """Return the object that a JSON file holds; None where there is no such file, or it holds something else."""
    try:
        found = decode(read_bytes(path, limit))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(constant: str) -> Any:
    raise JsonError(f"holds {constant}, which is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JsonError(f"says {twice[:60]!r} twice in one object")
    return found


def _check(value: Any, *, surrogates: bool) -> None:
    """Walk through a value without recursion; JsonError at what nobody could work with."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise JsonError(f"is nested more than {MAX_DEPTH} deep")
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
                if surrogates:
                    below += one
            elif isinstance(one, list):
                below += one
            elif isinstance(one, float):
                if not math.isfinite(one):
                    raise JsonError("holds a number beyond the range of float64")
            elif isinstance(one, int):
                if not -MAX_NUMBER < one < MAX_NUMBER:
                    raise JsonError(f"holds a whole number of {len(str(abs(one)))} digits")
            elif surrogates and isinstance(one, str) and not one.isascii():
                try:
                    one.encode()
                except UnicodeEncodeError:
                    raise JsonError("holds half of a surrogate pair, which is no character") from None
        level, depth = below, depth + 1
