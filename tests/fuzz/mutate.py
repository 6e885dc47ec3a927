"""Random changes of bytes and of JSON values, each a function of a random generator."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

#: What stands in the place of a value: other types, numbers out of range, names that are none.
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -(10**400), 1e308, 5e-324, float("nan"), float("inf"), 0.5),
    *(
        "",
        "x",
        "\0",
        "\x1b[2J",
        "\ud800",
        "a" * 300,
        "../../x",
        "/etc/passwd",
        "~nouser/x",
        "é" * 130,
        ".",
        "..",
        "CON",
    ),
    *("a/b/../c", "(a+)+!", "(?i)q", "*", "(" * 200, "\u202e", "text\nmore", "NaN"),
    *([], {}, [1], [None], {"a": 1}, [[[[[[]]]]]]),
)
TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"-", b"\r", b"\n", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf"),
    *(b"1e999", b"NaN", b"null", b"\\ud800", b"\\u0000", b"9" * 400, b"[" * 2000, b"\xc3\x28", b"\xed\xa0\x80"),
)


def nested(value: Any, depth: int) -> Any:
    """Return a value at the bottom of so many lists."""
    for _ in range(depth):
        value = [value]
    return value


def structure(rng: random.Random, value: Any) -> Any:
    """Return a JSON value in which one to three nodes were replaced, removed, repeated or exchanged."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        parents = [one for one in _walk(value) if isinstance(one, dict | list) and one]
        if not parents:
            return copy.deepcopy(rng.choice(NASTY))
        parent = rng.choice(parents)
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        key = rng.choice(list(keys))
        action = rng.random()
        if action < 0.65:
            parent[key] = (
                copy.deepcopy(rng.choice(NASTY)) if action < 0.6 else nested(parent[key], rng.choice((3, 70, 500)))
            )
        elif action < 0.8:
            del parent[key]
        elif isinstance(parent, dict):
            parent[rng.choice([one for one in NASTY if isinstance(one, str)])] = _copy(parent[key])
        else:
            parent.append(_copy(parent[key]))
    return value


def _copy(value: Any) -> Any:
    """Return a copy, or the value itself where it is nested too deep for that."""
    try:
        return copy.deepcopy(value)
    except RecursionError:
        return 0


def _walk(value: Any) -> list[Any]:
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else []
    return found


def text(rng: random.Random, value: Any) -> bytes:
    """Return the bytes of a changed value, sometimes damaged once more."""
    try:
        data = json.dumps(structure(rng, value)).encode()
    except RecursionError:  # nested several times over
        data = b'{"a":' * 5000 + b"1" + b"}" * 5000
    return damaged(rng, data) if rng.random() < 0.15 else data


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return bytes of which some were flipped, cut, repeated, exchanged or inserted."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(changed) + 1)
        action = rng.randrange(6)
        if action == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            del changed[at : at + rng.choice((1, 2, 8, 64, 1 << 12))]
        elif action == 2:
            changed[at:at] = rng.choice(TOKENS)
        elif action == 3:
            changed[at : at + 8] = rng.randbytes(rng.choice((1, 4, 8)))
        elif action == 4:
            stop = at + rng.choice((4, 32, 256))
            changed[at:at] = changed[at:stop]
        else:
            del changed[at:]
    return bytes(changed)
