"""The rows of an opened file, one at a time, each with the line where it begins: JSONL, JSON, CSV, TSV, Parquet."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from lorameta.data.rows import DuplicatedKeys, JsonNumber, RowError
from lorameta.errors import DataError, violations

_WRAPPERS = ("data", "Instances", "instances", "rows", "examples")
_QUOTES = 'In CSV and TSV a field that holds the separator, a quote or a line end is quoted: "like ""this""".'


class Problems:
    """The bad rows of one dataset. Equal complaints are counted, so that ten million of them take no memory."""

    def __init__(self, name: str, place: str) -> None:
        self.name = name
        self.place = place  # what stands before the number of the line or row
        self.count = 0
        self._lines: dict[str, list[int]] = {}  # message: [how often, the first places]
        self._hints: dict[str, None] = {}

    def add(self, line: int, message: str, hint: str = "") -> None:
        """Note that the row at `line` cannot be used."""
        self.count += 1
        if message in self._lines or len(self._lines) < 1000:
            lines = self._lines.setdefault(message, [0])
            lines[0] += 1
            if len(lines) <= 6:
                lines.append(line)
        if hint:
            self._hints[hint] = None

    def raise_if_any(self) -> None:
        """Raise a DataError that lists all of them."""
        if not self.count:
            return
        errors = []
        for message, (count, first, *others) in self._lines.items():
            also = f" (also at {', '.join(map(str, others))}" if others else ""
            also += f" and {count - 1 - len(others)} more" if count > 1 + len(others) else ""
            errors.append(f"{self.place}{first}: {message}{also}{')' if also else ''}")
        if self.count == 1:
            heading = f"1 row of {self.name} cannot be used:"
        else:
            heading = f"{self.count} rows of {self.name} cannot be used:"
        raise DataError(violations(errors, heading, "\n".join(self._hints)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    names = [key for key, _ in pairs]
    twice = DuplicatedKeys(row)
    twice.key = next(key for key in names if names.count(key) > 1)
    return twice


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=JsonNumber, parse_float=JsonNumber)


def jsonl_rows(text: TextIO, problems: Problems) -> Iterator[tuple[int, object]]:
    """One JSON value a line; blank lines are skipped."""
    for number, line in enumerate(text, 1):
        line = line.strip().lstrip("\ufeff")
        if not line:
            continue
        try:
            row = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            problems.add(
                number, f"broken JSON at column {error.colno}: {error.msg}", "JSONL is one JSON object a line."
            )
        except RecursionError:
            problems.add(number, "the JSON is nested too deeply")
        else:
            yield number, row


def json_rows(text: TextIO, problems: Problems) -> Iterator[tuple[int, object]]:
    """The elements of a list, or of the one list of an object; or a single object as the only row."""
    cursor = _Cursor(text.read().lstrip("\ufeff"))
    try:
        if cursor.peek() == "[":
            yield from cursor.elements()
        elif cursor.peek() == "{":
            yield from _unwrapped(cursor)
        else:
            cursor.take("[", "{")
        if cursor.peek():
            raise json.JSONDecodeError("text after the end (one object a line is .jsonl)", cursor.text, cursor.at)
    except json.JSONDecodeError as error:
        problems.add(error.lineno, f"broken JSON at column {error.colno}: {error.msg}; what follows was not read")
    except RecursionError:
        problems.add(cursor.line(), "the JSON is nested too deeply; what follows was not read")


def _unwrapped(cursor: _Cursor) -> Iterator[tuple[int, object]]:
    """The rows of an object; a task of Natural Instructions hands its Definition on to its Instances."""
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
        if isinstance(value, list) and key != "messages" and all(isinstance(row, dict) for row in value)
    ]
    named = [key for key in _WRAPPERS if key in lists]
    if not lists or (not named and "messages" in values):
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
        """The next character that is not whitespace, or nothing at the end."""
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
        value, self.at = _DECODER.raw_decode(self.text, self.at)
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

    def members(self) -> Iterator[tuple[str, Any, list[int]]]:
        """Keys and values of an object; of a list also the line of each element."""
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


def csv_rows(text: TextIO, problems: Problems) -> Iterator[tuple[int, object]]:
    """Rows under a header; the separator is a comma, or the semicolon or tab that the header has more of."""
    return _table(text, problems, ",;\t")


def tsv_rows(text: TextIO, problems: Problems) -> Iterator[tuple[int, object]]:
    """Rows under a header, separated by tabs and quoted as in CSV."""
    return _table(text, problems, "\t")


def _table(text: TextIO, problems: Problems, separators: str) -> Iterator[tuple[int, object]]:
    ahead = []
    for line in text:
        ahead.append(line)
        if line.strip():
            break
    separator = max(separators, key=ahead[-1].count)
    # strict: without it a quote that is never closed would swallow the rest of the file as one field
    reader = csv.reader(itertools.chain(ahead, text), delimiter=separator, strict=True)
    header: list[str] | None = None
    line_number = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            problems.add(line_number, f"{_csv_reason(str(error))}; what follows was not read", _QUOTES)
            return
        start, line_number = line_number, reader.line_num + 1
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = [name.strip().lstrip("\ufeff") for name in fields]
            twice = sorted({name for name in header if name and header.count(name) > 1})
            if twice:
                raise RowError(f"the header has the column {', '.join(map(repr, twice))} more than once; rename one")
        elif len(fields) != len(header):
            counts = f"the row has {len(fields)} field{'s' * (len(fields) != 1)}, the header has {len(header)}"
            problems.add(start, f"{counts} ({', '.join(header[:12])})", _QUOTES)
        else:
            yield start, dict(zip(header, fields, strict=True))


def _csv_reason(error: str) -> str:
    if "unexpected end" in error:
        return "a quote that opens in this row is never closed"
    if "field limit" in error:
        return f"a field has more than {csv.field_size_limit()} characters; probably a quote is not closed"
    if "expected after" in error:
        return "text follows a closing quote"
    return error


def parquet_rows(source: BinaryIO) -> Iterator[tuple[int, object]]:
    """The rows of a Parquet file, numbered from 1, a thousand in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(source)
        names = file.schema_arrow.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RowError(f"the column {', '.join(map(repr, twice))} is there more than once; rename one")
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise RowError(f"the Parquet file is damaged or cut short after row {number}: {error}") from None
