"""Single values of a row as text: what counts as missing, as a number, and what is refused."""

from __future__ import annotations

import difflib
import functools
import json
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any


class RowError(ValueError):
    """Why one row cannot be used; `hint` is advice that is given once, not for every row."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class JsonNumber(str):
    """A number of a JSON file, kept as it was written: 1.50 stays 1.50."""


class DuplicatedKeys(dict[str, Any]):
    """A JSON object in which a key appears twice: which of the two values is meant cannot be known."""

    key: str = ""


def text_of(value: object, name: str) -> str:
    """Return a text or a number as text; RowError for anything else. `name` is what messages call it."""
    if isinstance(value, str):
        text = str(value)
    elif isinstance(value, bool):
        raise RowError(f"`{name}` is {kind(value)}; write it as text, for example yes or no")
    elif isinstance(value, numbers.Number) and not missing(value) and _finite(value):
        try:
            text = str(value)
        except ValueError:  # Python refuses to write integers of more than 4300 digits
            raise RowError(f"`{name}` is a number of too many digits; write it as text") from None
    else:
        raise RowError(f"`{name}` is {kind(value)}; text or a number is needed")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise RowError(f"`{name}` has half of a surrogate pair (a broken \\u escape), which no encoding can hold")
    return text


def block_of(value: object, name: str) -> str:
    """Return a value as a block of text: lists of texts one per line, other lists and objects as JSON."""
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        if all(isinstance(item, (str, numbers.Number)) and not isinstance(item, bool) for item in items):
            return "\n".join(text_of(item, f"{name}[{index}]") for index, item in enumerate(items))
    if isinstance(value, (list, tuple, Mapping)):
        return json_text(value, name)
    return text_of(value, name)


def json_text(value: object, name: str) -> str:
    """Return a value as compact JSON; RowError if it has none."""
    try:
        return json.dumps(_native(value), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise RowError(f"`{name}` is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise RowError(f"`{name}` cannot be written as JSON: {error}") from None


def _native(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, JsonNumber):
        return json.loads(value) if len(value) < 400 else str(value)
    if isinstance(value, Mapping):
        return {str(key): _native(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_native(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """Return a numpy scalar or array, or a missing value of pandas, as plain Python."""
    if value is None or isinstance(value, (str, int, float, list, tuple, dict)):
        # numpy's float64 and str_ are subclasses of these and behave as they do
        return value
    if type(value).__name__ in ("NAType", "NaTType"):
        return math.nan
    if isinstance(value, Decimal) and value.is_nan():
        return math.nan
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, type) else value


def missing(value: object) -> bool:
    """Check whether a plain value stands for none: null or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def blank(value: Any) -> bool:
    """Check whether a value holds nothing: missing, white space only, or empty."""
    value = plain(value)
    if isinstance(value, str):
        return not value or value.isspace()
    return missing(value) or (isinstance(value, (list, tuple, Mapping)) and not value)


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return True
    except (TypeError, ValueError):  # a complex number, a signalling NaN
        return False


def kind(value: object) -> str:
    """Name the kind of a value in messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN (a missing value)" if math.isnan(value) else "infinite"
    if isinstance(value, complex):
        return "a complex number"
    if isinstance(value, (JsonNumber, numbers.Number)):
        return "a number" if isinstance(value, str) or _finite(value) else "not a finite number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"of type {type(value).__name__}"


def names(columns: Iterable[object]) -> str:
    """List the names of columns, at most twelve of them."""
    found = [str(name)[:40] or "(no name)" for name in columns]
    return ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")


@functools.lru_cache(maxsize=64)  # a file in which every row lacks the same column asks the same each time
def absence(
    columns: tuple[str, ...],
    what: str,
    wanted: Sequence[str],
    option: str,
    used: str | None = None,
    other: str | None = None,
) -> str:
    """Say what is missing, the columns that are there, and the one that was probably meant (not the one in use).

    Of two columns, the one that is left over goes with the option `other`, if there is one.
    """
    lowered = {column.strip().lower(): column for column in columns[:1000] if column != used}
    nearest = next((lowered[name.lower()] for name in wanted if name.lower() in lowered), None)
    if nearest is None:
        close = (difflib.get_close_matches(name.lower(), lowered, 1, 0.7) for name in wanted)
        nearest = next((lowered[match[0]] for match in close if match), None)
    rest = [column for column in columns if column != nearest] if other and len(columns) == 2 else []
    more = f" {other} {rest[0]!r}" if rest else ""
    advice = f"; did you mean {option} {nearest!r}{more}?" if nearest is not None else ""
    return f"{what}; columns here: {names(columns)}{advice}"
