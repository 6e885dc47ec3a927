"""JSON files: a list of rows, an object that holds one, or a single row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from lorameta.data.columns import CHATS
from lorameta.data.formats.jsonl import DECODER
from lorameta.data.problems import Problems
from lorameta.data.values import RowError

_WRAPPERS = ("data", "Instances", "instances", "rows", "examples")
#: Longest file in characters: it is held in memory beside its rows.
LONGEST_FILE = 1 << 31


def json_rows(text: TextIO, problems: Problems) -> Iterator[tuple[int, object]]:
    """Yield the elements of a list, or of the one list of an object; or a single object as the only row."""
    whole = text.read(LONGEST_FILE)
    if len(whole) == LONGEST_FILE:
        raise RowError("the JSON file is too large to be read as a whole: write it as JSONL, one object per line")
    cursor = _Cursor(whole.lstrip("\ufeff"))
    try:
        if cursor.peek() == "[":
            yield from cursor.elements()
        elif cursor.peek() == "{":
            yield from _unwrapped(cursor)
        else:
            cursor.take("[", "{")
        if cursor.peek():
            raise json.JSONDecodeError("text after the end (one object per line is .jsonl)", cursor.text, cursor.at)
    except json.JSONDecodeError as error:
        problems.add(error.lineno, f"broken JSON at column {error.colno}: {error.msg}; what follows was not read")
    except RecursionError:
        problems.add(cursor.line(), "the JSON is nested too deeply; what follows was not read")


def _unwrapped(cursor: _Cursor) -> Iterator[tuple[int, object]]:
    """Yield the rows of an object; a task of Natural Instructions hands its Definition on to its Instances."""
    start = cursor.line()
    values: dict[str, Any] = {}
    lines: dict[str, list[int]] = {}
    for key, value, places in cursor.members():
        if key in values:
            raise RowError(f"the key {key!r} appears twice in the outer object; keep one")
        values[key], lines[key] = value, places
    lists = [
        key
        for key, value in values.items()
        if isinstance(value, list)
        and key not in CHATS
        and all(isinstance(row, dict) and not {"role", "from"} & set(row) for row in value)
    ]
    named = [key for key in _WRAPPERS if key in lists]
    if not lists or (not named and any(chat in values for chat in CHATS)):
        yield start, values
        return
    if not named and len(lists) > 1:
        raise RowError(f"the object holds several lists of rows ({', '.join(lists)}); keep the one that is meant")
    key = (named or lists)[0]
    definition = values.get("Definition")
    if isinstance(definition, list) and len(definition) == 1:
        definition = definition[0]
    for line, row in zip(lines[key], values[key], strict=True):
        if isinstance(definition, str) and "instruction" not in row:
            row["instruction"] = definition
        yield line, row


class _Cursor:
    """A place in JSON text: parses a list element by element, so that each row knows its line."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self._line, self._counted = text, 0, 1, 0

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def peek(self) -> str:
        """Return the next character that is not whitespace, or nothing at the end."""
        while self.text[self.at : self.at + 1] in (" ", "\t", "\n", "\r"):
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, *allowed: str) -> str:
        found = self.peek()
        if found not in allowed:
            raise json.JSONDecodeError(f"Expecting {' or '.join(map(repr, allowed))}", self.text, self.at)
        self.at += 1
        return found

    def value(self) -> Any:
        self.peek()
        value, self.at = DECODER.raw_decode(self.text, self.at)
        return value

    def elements(self) -> Iterator[tuple[int, Any]]:
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        separator = ","
        while separator == ",":
            self.peek()
            yield self.line(), self.value()
            separator = self.take(",", "]")
            if separator == "," and self.peek() == "]":
                raise json.JSONDecodeError("a comma follows the last element", self.text, self.at)

    def members(self) -> Iterator[tuple[str, Any, list[int]]]:
        """Yield keys and values of an object; of a list also the line of each element."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        separator = ","
        while separator == ",":
            if self.peek() != '"':
                raise json.JSONDecodeError("Expecting a key in double quotes", self.text, self.at)
            key = self.value()
            self.take(":")
            places: list[int] = []
            if self.peek() == "[":
                value: Any = []
                for line, element in self.elements():
                    places.append(line)
                    value.append(element)
            else:
                value = self.value()
            yield key, value, places
            separator = self.take(",", "}")
