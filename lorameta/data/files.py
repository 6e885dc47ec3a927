"""A file of rows: found, opened, its format and encoding made out, and read one row at a time."""

from __future__ import annotations

import difflib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lorameta.data.formats import Problems, csv_rows, json_rows, jsonl_rows, parquet_rows, tsv_rows
from lorameta.data.rows import RowError
from lorameta.errors import DataError, UsageError

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_TEXT_READERS = {"jsonl": jsonl_rows, "json": json_rows, "csv": csv_rows, "tsv": tsv_rows}
_HEAD = 1 << 16
_FOREIGN = {
    b"\x1f\x8b": "a compressed (gzip) file: unpack it first",
    b"BZh": "a compressed (bzip2) file: unpack it first",
    b"\xfd7zXZ": "a compressed (xz) file: unpack it first",
    b"\x28\xb5\x2f\xfd": "a compressed (zstd) file: unpack it first",
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"version https://git-lfs": "a Git LFS pointer, not the data: run `git lfs pull`",
    b"<!doctype html": "a web page, not the data: download the file itself",
    b"<html": "a web page, not the data: download the file itself",
}


def read_file(path: str | os.PathLike[str], encoding: str, problems: Problems) -> Iterator[tuple[int, object]]:
    """The rows of a file, each with the number of the line where it begins (in Parquet: of the row), from 1.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Its format is that of its extension, corrected by its first bytes where these leave no doubt.
    encoding : str
        Of text formats; a byte order mark is always accepted.
    problems : Problems
        Takes what is wrong in single rows; reading goes on where it can.

    Yields
    ------
    tuple of int and object
        Usually a dict; whatever stands in the file otherwise.

    Raises
    ------
    DataError
        The file as a whole cannot be read.
    UsageError
        The encoding is unknown.
    """
    codec = _codec(encoding)
    with _open(Path(path)) as source:
        kind = _format(Path(path), source, codec)
        source.seek(0)
        try:
            if kind == "parquet":
                problems.place = f"{path}: row "
                yield from parquet_rows(source)
                return
            # csv counts lines itself and wants the line ends as they are; the others want them all alike
            text = io.TextIOWrapper(source, encoding=codec, newline="" if kind in ("csv", "tsv") else None)
            try:
                yield from _TEXT_READERS[kind](text, problems)
            except UnicodeDecodeError as error:
                _report_bytes(source, codec, error, problems)
            finally:
                text.detach()
        except RowError as error:
            raise DataError(f"{path}: {error}") from None


def _codec(encoding: str) -> str:
    try:
        "a".encode(encoding)
    except (LookupError, ValueError):
        raise UsageError(
            f"--encoding {encoding!r} is not a text encoding; try utf-8, cp1252, latin-1 or utf-16"
        ) from None
    return "utf-8-sig" if re.sub(r"[-_ ]", "", encoding.lower()) in ("utf8", "utf8sig") else encoding


def _open(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            inside = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in FORMATS)
            found = f" It holds {', '.join(inside[:6])}: name one of them." if inside else ""
            raise DataError(f"{path} is a directory, not a file of rows.{found}")
        source: BinaryIO = path.open("rb")
        if not path.is_file():  # a pipe cannot be read twice
            with source:
                return io.BytesIO(source.read())
        return source
    except FileNotFoundError:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, names, 1)
        meant = f" Did you mean {path.parent / close[0]}?" if close else ""
        raise DataError(
            f"There is no file {path}.{meant} A dataset of the Hugging Face Hub is loaded with "
            "datasets.load_dataset and handed over as an object."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from None


def _format(path: Path, source: BinaryIO, codec: str) -> str:
    head = source.read(_HEAD)
    start = head.lstrip()
    for magic, what in _FOREIGN.items():
        if start.lower().startswith(magic.lower()):
            raise DataError(f"{path} is {what}.")
    if head.startswith(b"PAR1"):
        return "parquet"
    if codec == "utf-8-sig" and head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16, not UTF-8 (it begins with its byte order mark): say --encoding utf-16.")
    text = head.decode(codec, errors="replace").lstrip("\ufeff \t\r\n")
    if not text and len(head) < _HEAD:
        raise DataError(f"{path} is empty: there is not one row in it.")
    kind = FORMATS.get(path.suffix.lower())
    if kind in ("csv", "tsv", "parquet"):
        return kind
    line, _, rest = text.partition("\n")
    try:
        first: object = json.loads(line)
    except (ValueError, RecursionError):
        first = None
    if text.startswith("["):
        whole = (
            first is None
            or kind != "jsonl"
            or (isinstance(first, list) and all(isinstance(row, dict) for row in first))
        )
        return "json" if whole else "jsonl"
    if text.startswith("{"):
        many = isinstance(first, dict) and bool(rest.strip())
        return "jsonl" if kind == "jsonl" or many else "json"
    if kind is None:
        known = ", ".join(FORMATS)
        raise DataError(f"{path}: neither its name nor its first line tells the format; supported are {known}.")
    return kind


def _report_bytes(source: BinaryIO, encoding: str, error: UnicodeDecodeError, problems: Problems) -> None:
    """Name every line that does not decode: the reader met only the first."""
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    hint = f"The file is not {name} throughout: say what it is, for example --encoding cp1252, or save it as UTF-8."
    before = problems.count
    if len("\n".encode(encoding).lstrip(b"\xef\xbb\xbf")) == 1:  # else lines cannot be told apart in bytes
        source.seek(0)
        offset = 0
        for number, line in enumerate(source, 1):
            try:
                line.decode(name)
            except UnicodeDecodeError as here:
                what = f"byte 0x{line[here.start]:02x} at offset {offset + here.start} is not {name}"
                problems.add(number, what, hint)
            offset += len(line)
    if problems.count == before:
        problems.add(1, f"the bytes are not {name} ({error.reason})", hint)
