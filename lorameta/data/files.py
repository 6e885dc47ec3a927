"""A file of rows: found, opened, its format and encoding made out, and read one row at a time."""

from __future__ import annotations

import codecs
import difflib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from lorameta.data.compressed import ENDINGS, compression_of, decompressed
from lorameta.data.formats import json_rows, jsonl_rows, parquet_rows, table_rows
from lorameta.data.formats.arrow import arrow_rows
from lorameta.data.problems import Problems
from lorameta.data.values import RowError
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
_HEAD = 1 << 16
_SEPARATORS = {"csv": ",;\t|", "tsv": "\t"}
_NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_NO_TEXT = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"version https://git-lfs": "a Git LFS pointer, not the data: run `git lfs pull`",
    b"<!doctype html": "a web page, not the data: download the file itself",
    b"<html": "a web page, not the data: download the file itself",
}


def format_of(name: str) -> str | None:
    """Return the format that the name of a file says, compressed or not; None if it says none."""
    path = Path(name.lower())
    if path.suffix in ENDINGS:
        path = path.with_suffix("")
    return FORMATS.get(path.suffix)


def read_file(
    path: str | os.PathLike[str],
    encoding: str,
    problems: Problems,
    *,
    wanted: Callable[..., list[str]] | None = None,
    delimiter: str | None = None,
    quoting: str = "auto",
    notes: list[str] | None = None,
) -> Iterator[tuple[int, object]]:
    """Yield the rows of a file, each with the number of the line where it begins (in Parquet: of the row), from 1.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Its format is that of its extension, corrected by its first bytes where these leave no doubt. It may
        be compressed (gzip, bzip2, xz, zstd).
    encoding : str
        Of text formats; a byte order mark is always accepted.
    problems : Problems
        Takes what is wrong in single rows; reading goes on where it can.
    wanted : callable, optional
        Chooses the columns of a Parquet file; by default all are read.
    delimiter : str, optional
        What separates the fields of a CSV or TSV file; found out by default.
    quoting : {"auto", "minimal", "none"}
        Whether quotes enclose fields of a CSV or TSV file, see `table_rows`.
    notes : list of str, optional
        Gets what was decided and may surprise.

    Yields
    ------
    tuple of int and object
        Usually a dict; whatever stands in the file otherwise.

    Raises
    ------
    DataError
        The file as a whole cannot be read.
    UsageError
        The encoding, the delimiter or the quoting is unknown.
    """
    codec, separator = _codec(encoding), _separator(delimiter, quoting)
    with _open(Path(path)) as source:
        try:
            yield from _rows(Path(path), source, codec, problems, wanted or _all, separator, quoting, notes)
        except RowError as error:
            raise DataError(f"{path}: {error}") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read to its end: {error}") from None


def _rows(
    path: Path,
    source: BinaryIO,
    codec: str,
    problems: Problems,
    wanted: Callable[..., list[str]],
    separator: str | None,
    quoting: str,
    notes: list[str] | None,
) -> Iterator[tuple[int, object]]:
    packed = compression_of(source.read(8))
    if packed:
        source = decompressed(source, packed)
    source.seek(0)
    kind = _format(path, source, codec)
    source.seek(0)
    if kind in ("parquet", "arrow"):
        if packed:
            raise RowError(f"a {kind} file that is packed with {packed}: unpack it first")
        problems.place = f"{path}: row "
        yield from (parquet_rows if kind == "parquet" else arrow_rows)(source, wanted)
        return
    # csv counts lines itself and wants the line ends as they are; the others want them all alike
    text = io.TextIOWrapper(source, encoding=codec, newline="" if kind in _SEPARATORS else None)
    try:
        if kind in _SEPARATORS:
            yield from table_rows(text, problems, separator or _SEPARATORS[kind], quoting=quoting, notes=notes)
        else:
            yield from (json_rows if kind == "json" else jsonl_rows)(text, problems)
    except UnicodeError as error:
        _report_bytes(source, codec, error, problems)
    finally:
        text.detach()


def _all(names: Sequence[str], empty: Sequence[str] = ()) -> list[str]:
    return list(names)


def _codec(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        "a".encode(encoding)
        if name in _NO_TEXT:
            raise LookupError
    except (LookupError, ValueError, TypeError):
        raise UsageError(
            f"--encoding {encoding!r} is not a text encoding; try utf-8, cp1252, latin-1 or utf-16"
        ) from None
    return "utf-8-sig" if re.sub(r"[-_ ]", "", encoding.lower()) in ("utf8", "utf8sig") else encoding


def _separator(delimiter: str | None, quoting: str) -> str | None:
    if quoting not in ("auto", "minimal", "none"):
        raise UsageError(f"--quoting {quoting!r} is none of auto, minimal, none")
    if delimiter is None:
        return None
    separator = _NAMED.get(delimiter.lower(), delimiter)
    if len(separator) != 1 or separator in '"\r\n\0':
        raise UsageError(f"--delimiter {delimiter!r} is not one character; name it, or say tab, comma, semicolon, pipe")
    return separator


def _open(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise DataError(f"{path} is a directory, not a file of rows.")
        source: BinaryIO = path.open("rb")
        if not path.is_file():  # a pipe cannot be read twice
            with source:
                return io.BytesIO(source.read())
        return source
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.{_meant(path)}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from None


def _meant(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        names = []
    close = difflib.get_close_matches(path.name, names[:10_000], 1)
    return f" Did you mean {path.parent / close[0]}?" if close else ""


def _format(path: Path, source: BinaryIO, codec: str) -> str:
    head = source.read(_HEAD)
    start = head.lstrip()
    for magic, what in _FOREIGN.items():
        if start[:64].lower().startswith(magic.lower()):
            raise DataError(f"{path} is {what}.")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")) or path.suffix.lower() == ".arrow":
        return "arrow"
    if codec == "utf-8-sig" and head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16, not UTF-8 (it begins with its byte order mark): say --encoding utf-16.")
    if codec == "utf-8-sig" and (order := _utf16(head)):
        raise DataError(f"{path} looks like UTF-16, without a byte order mark: say --encoding utf-16-{order}.")
    try:
        text = head.decode(codec, errors="replace").lstrip("\ufeff \t\r\n")
    except UnicodeError:
        text = "?"  # the reader will tell what is wrong
    if not text and len(head) < _HEAD:
        raise DataError(f"{path} is empty: there is not one row in it.")
    kind = format_of(path.name)
    line, _, rest = text.partition("\n")
    if kind == "parquet" or (kind in ("csv", "tsv") and not line.startswith(('{"', '[{"'))):
        return kind
    try:
        first: Any = json.loads(line)
    except (ValueError, RecursionError):
        first = None
    if text.startswith("["):
        rows = isinstance(first, list) and all(isinstance(row, dict) for row in first)
        if rows and rest.strip() and any({"role", "from"} & set(row) for row in first):
            return "jsonl"  # each line is a list of turns
        return "json" if first is None or kind != "jsonl" or rows else "jsonl"
    if text.startswith("{"):
        many = isinstance(first, dict) and bool(rest.strip())
        return "jsonl" if kind == "jsonl" or many else "json"
    if kind is None:
        known = ", ".join(FORMATS)
        raise DataError(f"{path}: neither its name nor its first line tells the format; supported are {known}.")
    return kind


def _utf16(head: bytes) -> str:
    """Return the byte order if nearly every second byte is 0, as in Latin text in UTF-16."""
    even, odd = head[0::2], head[1::2]
    if len(head) < 8:
        return ""
    return "le" if odd.count(0) > 0.8 * len(odd) else "be" if even.count(0) > 0.8 * len(even) else ""


def _report_bytes(source: BinaryIO, encoding: str, error: UnicodeError, problems: Problems) -> None:
    """Name every line that does not decode: the reader met only the first."""
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    hint = f"The file is not {name} throughout: say what it is, for example --encoding cp1252, or save it as UTF-8."
    before = problems.count
    if _one_byte_lines(encoding):  # else lines cannot be told apart in bytes
        source.seek(0)
        offset = 0
        for number, line in enumerate(iter(lambda: source.readline(1 << 26), b""), 1):
            try:
                line.decode(name)
            except UnicodeDecodeError as here:
                what = f"byte 0x{line[here.start]:02x} at offset {offset + here.start} is not {name}"
                problems.add(number, what, hint)
            except UnicodeError as here:
                problems.add(number, f"the bytes are not {name} ({here})", hint)
            offset += len(line)
    if problems.count == before:
        problems.add(1, f"the bytes are not {name} ({getattr(error, 'reason', error)})", hint)


def _one_byte_lines(encoding: str) -> bool:
    try:
        return len("\n".encode(encoding).lstrip(b"\xef\xbb\xbf")) == 1
    except UnicodeError:
        return False
