"""CSV and TSV: rows under a header."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

from lorameta.data.formats.jsonl import LONGEST_LINE, lines
from lorameta.data.problems import Problems
from lorameta.data.values import RowError

_QUOTES = (
    'In CSV and TSV a field that holds the separator, a quote or a line end is quoted: "like ""this""". '
    "Where quotes are plain text, say --quoting none."
)
_JOINED = (
    "a quoted field runs over several lines, each of which would be a whole row; if quotes are plain text in this "
    "file, say --quoting none"
)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_EXCEL = re.compile(r'\ufeff?"?sep=(.)"?\s*')


def table_rows(
    text: TextIO, problems: Problems, separators: str, *, quoting: str = "auto", notes: list[str] | None = None
) -> Iterator[tuple[int, object]]:
    """Yield the rows under a header as dicts, each with the number of its first line.

    Parameters
    ----------
    text : TextIO
        Opened with ``newline=""``; it must be possible to go back to its beginning.
    separators : str
        Where they are several, the one that the header has most of is taken. Excel's first line ``sep=;`` is obeyed.
    quoting : {"auto", "minimal", "none"}
        Whether a quote at the start of a field encloses it. ``auto`` is ``minimal``, and ``none`` for a file separated
        by tabs in which every line has all its fields as it stands and quotes do not enclose fields.
    notes : list of str, optional
        Gets what was decided and may surprise.
    """
    notes = [] if notes is None else notes
    skip, first = 0, ""
    for line in lines(text):
        excel = _EXCEL.fullmatch(line)
        if excel is not None and not first:
            separators = excel[1]
        elif line.strip():
            first = line
            break
        skip += 1
    separator = max(separators, key=first.count)
    if quoting == "auto":
        quoting = "minimal"
        if separator == "\t" and _bare(text, skip, separator):
            quoting = "none"
            notes.append("quotes are read as text, as every line has all its fields (--quoting minimal reads them)")
    _rewind(text, skip)
    # Global to the module csv: never lowered again, as another reader may be at work.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    rows = _rows(text, problems, separator, quoting, skip)
    yield from rows


def _rewind(text: TextIO, skip: int) -> None:
    text.seek(0)
    for _ in range(skip):
        text.readline()


def _bare(text: TextIO, skip: int, separator: str) -> bool:
    """Check whether quotes are plain text: every line is whole as it stands, and a quote does not enclose a field."""
    _rewind(text, skip)
    width, bare = 0, False
    for line in lines(text):
        fields = line.rstrip("\r\n").split(separator)
        if not line.strip():
            continue
        width = width or len(fields)
        if len(fields) != width:
            return False
        bare = bare or any(field.startswith('"') and not _QUOTED.fullmatch(field) for field in fields)
    return bare


def _rows(text: TextIO, problems: Problems, separator: str, quoting: str, skip: int) -> Iterator[tuple[int, object]]:
    last: list[str] = []  # lines of the row that is being read

    def kept() -> Iterator[str]:
        for line in lines(text):
            last.append(line)
            yield line

    # strict: without it a quote that is never closed would swallow the rest of the file as one field
    reader = csv.reader(
        kept(), delimiter=separator, strict=True, quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL
    )
    header: list[str] | None = None
    line_number = skip + 1
    while True:
        last.clear()
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            problems.add(line_number, f"{_reason(str(error), separator)}; what follows was not read", _QUOTES)
            return
        start, line_number = line_number, skip + reader.line_num + 1
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = [name.strip().lstrip("\ufeff") for name in fields]
            twice = sorted(name for name, count in Counter(header).items() if name and count > 1)
            if twice:
                raise RowError(
                    f"the header has the column {', '.join(map(repr, twice[:12]))} more than once; rename one"
                )
            continue
        if len(last) > 1 and _joined(last, separator, len(header)):
            problems.doubt(start, _JOINED)
        if len(fields) != len(header):
            counts = f"the row has {len(fields)} field{'s' * (len(fields) != 1)}, the header has {len(header)}"
            problems.add(start, f"{counts} ({', '.join(header[:12])})", _QUOTES)
        else:
            yield start, dict(zip(header, fields, strict=True))


def _joined(row: list[str], separator: str, width: int) -> bool:
    """Check whether each line of a row would be a row of its own, and nothing else speaks for quoting."""
    return all(line.count(separator) == width - 1 for line in row) and not any('""' in line for line in row)


def _reason(error: str, separator: str) -> str:
    if "unexpected end" in error:
        return "a quote that opens in this row is never closed"
    if "field limit" in error or "field larger" in error:
        return f"a field has more than {LONGEST_LINE:,} characters; probably a quote is not closed"
    if "expected after" in error:
        return "text follows a closing quote"
    if "NUL" in error:  # before Python 3.11
        return "the row has NUL characters"
    return error
