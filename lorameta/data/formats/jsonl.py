"""JSONL: one JSON value per line; and the decoder of every JSON row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from lorameta.data.problems import Problems
from lorameta.data.values import DuplicatedKeys, JsonNumber, RowError

#: Longest line in characters that is read; a row of a dataset is never that long.
LONGEST_LINE = 1 << 26
COMMAS = "JSONL has no commas between its lines: remove them, or write one list, [ ... ], into a .json file."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    twice, before = DuplicatedKeys(row), set[str]()
    for key, _ in pairs:
        if key in before:
            twice.key = key
            break
        before.add(key)
    return twice


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=JsonNumber, parse_float=JsonNumber)


def lines(text: TextIO) -> Iterator[str]:
    """Yield the lines of a file; RowError for one that never ends."""
    number = 0
    while line := text.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise RowError(f"line {number} is longer than {LONGEST_LINE:,} characters: this is no file of rows")
        yield line


def jsonl_rows(text: TextIO, problems: Problems) -> Iterator[tuple[int, object]]:
    """Yield one JSON value per line; blank lines are skipped."""
    for number, line in enumerate(lines(text), 1):
        line = line.strip().lstrip("\ufeff")
        if not line:
            continue
        try:
            row = DECODER.decode(line)
        except json.JSONDecodeError as error:
            if error.msg == "Extra data" and line[error.pos :].strip() == ",":
                problems.add(number, "a comma follows the object", COMMAS)
                continue
            problems.add(
                number, f"broken JSON at column {error.colno}: {error.msg}", "JSONL is one JSON object per line."
            )
        except RecursionError:
            problems.add(number, "the JSON is nested too deeply")
        else:
            yield number, row
