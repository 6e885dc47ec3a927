"""Plain-text tables and bars: aligned, as wide as the terminal at most, in ASCII where the terminal has no more."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Sequence

GAP = "  "
MINIMUM = 8  # a column is not cut below this many cells
EIGHTHS = " ▏▎▍▌▋▊▉█"


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, align: str = "", width: int | None = None
) -> str:
    """Lay out rows under their headers.

    Parameters
    ----------
    headers : sequence of str
    rows : sequence of sequences
        As many cells as headers. A float is shown with three decimals, None as "-"; round beforehand for another form.
    align : str
        One of ``<`` and ``>`` a column. By default numbers go right and everything else left.
    width : int, optional
        Cells at most, the terminal's by default. What does not fit is cut from the widest left-aligned columns.

    Returns
    -------
    str
        Lines without trailing blanks, joined by line breaks: header, rule, rows.

    Examples
    --------
    >>> print(table(["model", "score"], [["base", 0.5], ["adapter", None]]))
    model    score
    -------  -----
    base     0.500
    adapter      -
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"a row of {len(row)} cells under {len(headers)} headers: {list(row)!r}")
    if not align:
        align = "".join(">" if _numeric([row[i] for row in rows]) else "<" for i in range(len(headers)))
    cells = [list(headers), *([_text(value) for value in row] for row in rows)]
    widths = [max(map(cell_width, column)) for column in zip(*cells, strict=True)]
    _shrink(widths, align, terminal_width() if width is None else width)
    lines = [_line(row, widths, align) for row in cells]
    rule = GAP.join(("-" if header else " ") * size for header, size in zip(headers, widths, strict=True))
    return "\n".join([lines[0], rule.rstrip(), *lines[1:]])


def bar(share: float, *, cells: int = 24, unicode: bool | None = None) -> str:
    """Return a bar as long as `share` of `cells`.

    Parameters
    ----------
    share : float
        In [0, 1]; values outside are clipped.
    cells : int
        Length of the full bar.
    unicode : bool, optional
        Block characters in steps of an eighth, otherwise ``#``. By default what the standard output can print.

    Examples
    --------
    >>> bar(0.5, cells=8, unicode=False)
    '####'
    """
    share = min(max(share, 0.0), 1.0)
    if not (has_unicode() if unicode is None else unicode):
        return "#" * round(share * cells)
    full, rest = divmod(round(share * cells * 8), 8)
    return EIGHTHS[-1] * full + EIGHTHS[rest].strip()


def fit(text: str, width: int) -> str:
    """`text` in one line, cut to `width` cells with an ellipsis where it is longer."""
    text = " ".join(text.split())
    if cell_width(text) <= width:
        return text
    mark = "…" if has_unicode() else "..."
    while text and cell_width(text) + len(mark) > width:
        text = text[:-1]
    return text.rstrip() + mark


def cell_width(text: str) -> int:
    """Cells that a terminal gives to `text`: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def terminal_width() -> int:
    """Columns of the terminal, between 60 and 120; 100 where there is none."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, 60), 120)


def has_unicode() -> bool:
    """Check whether the standard output can print block characters."""
    try:
        EIGHTHS.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _numeric(values: Sequence[object]) -> bool:
    return any(isinstance(value, int | float) for value in values) and all(
        value is None or isinstance(value, int | float) for value in values
    )


def _shrink(widths: list[int], align: str, limit: int) -> None:
    """Take cells from the widest left-aligned column until the line fits or nothing is left to take."""
    surplus = sum(widths) + len(GAP) * (len(widths) - 1) - limit
    while surplus > 0:
        candidates = [i for i, side in enumerate(align) if side == "<" and widths[i] > MINIMUM]
        if not candidates:
            return
        widths[max(candidates, key=lambda i: widths[i])] -= 1
        surplus -= 1


def _line(row: Sequence[str], widths: Sequence[int], align: str) -> str:
    parts = []
    for value, size, side in zip(row, widths, align, strict=True):
        value = fit(value, size)
        blanks = " " * (size - cell_width(value))
        parts.append(value + blanks if side == "<" else blanks + value)
    return GAP.join(parts).rstrip()
