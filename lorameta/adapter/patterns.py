"""Regular expressions out of an ``adapter_config.json``, matched within a limit.

PEFT takes a regular expression as ``target_modules`` and as the keys of ``rank_pattern`` and ``alpha_pattern``. Whoever
made the adapter wrote it, and an expression such as ``((a|b)+)+!`` keeps Python's matcher busy for ever. So only what
such expressions need is allowed, and matching, by the ``regex`` package where more than a plain name is to be matched,
ends after `SECONDS` for a whole adapter.
"""

from __future__ import annotations

import functools
import re
import time
from typing import Any

#: Seconds for all the matching of one adapter; some hundred modules take milliseconds.
SECONDS = 2.0
#: Characters of one expression, names or expressions in a list, and the product of the counts {m,n} at most.
MAX_LENGTH, MAX_NAMES, MAX_REPEATS = 20_000, 20_000, 1_000

#: What an expression is made of: ASCII, groups without flags, classes without ranges beyond ASCII, counted repeats.
_ALLOWED = re.compile(
    r"(?:[^\\{}()\x00-\x1f\x7f-\U0010ffff]|\\[.\-_/\\dDwWsSbB()\[\]{}|*+?^$]"
    r"|\((?:\?(?::|=|!|<=|<!)|(?!\?))|\)|\{\d{1,4}(?:,\d{0,4})?\})*"
)
_COUNTS = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_PLAIN = re.compile(r"(?:[\w.-]|\\[.\-])*", re.ASCII)


class TooLong(ValueError):
    """The matching of an adapter's expressions took longer than `SECONDS`."""


def problem(pattern: Any, template: str = "{}") -> str | None:
    """Say why an expression is refused; None if it is not.

    Parameters
    ----------
    pattern : object
        As the configuration has it.
    template : str
        What PEFT makes of it: ``{}`` is the place of the expression.
    """
    if not isinstance(pattern, str):
        return "it is no text"
    if len(pattern) > MAX_LENGTH:
        return f"it has more than {MAX_LENGTH} characters"
    if _ALLOWED.fullmatch(pattern) is None:
        return "it has more than names of modules need: letters, classes, groups and repeats"
    product = 1
    for low, high in _COUNTS.findall(pattern):
        product *= max(int(low), int(high or 0), 1)
        if product > MAX_REPEATS:
            return f"its counted repeats multiply to more than {MAX_REPEATS}"
    try:
        re.compile(pattern)
        groups = re.compile(template.format(pattern)).groups
    except (re.error, RecursionError, OverflowError) as error:
        return str(error) or type(error).__name__
    if template == LAYERS and groups > 1:
        return "it has a group of its own, where PEFT looks for the number of the layer"
    try:
        _compiled(template.format(pattern))
    except (ValueError, RecursionError) as error:  # regex.error is one
        return str(error) or type(error).__name__
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


#: What PEFT makes of a key of ``rank_pattern``, of ``target_modules`` and of a ``layers_pattern``.
KEY, WHOLE, LAYERS = r"(.*\.)?({})$", "(?:{})\\Z", r"(?:^|.*?\.){}\.(\d+)\."


class Matcher:
    """Matches names, and stops (:class:`TooLong`) once all of it has taken `seconds`."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.left = seconds

    def match(self, pattern: str, template: str, name: str) -> Any:
        """Return the match of ``template`` around `pattern` at the beginning of `name`; None if there is none."""
        start = time.perf_counter()
        try:
            if self.left <= 0:
                raise TimeoutError
            compiled = _compiled(template.format(pattern))
            if isinstance(compiled, re.Pattern):
                return compiled.match(name)
            return compiled.match(name, timeout=self.left)
        except TimeoutError:
            self.left = 0.0
            raise TooLong(f"its regular expressions take more than {SECONDS:g} s to match; name the modules") from None
        finally:
            self.left -= time.perf_counter() - start


@functools.lru_cache(maxsize=4096)
def _compiled(expression: str) -> Any:
    """Return the expression, compiled by `re` if it is a plain name, else by `regex`, which can be stopped."""
    inner = expression.removeprefix(r"(.*\.)?(").removesuffix(")$")
    if _PLAIN.fullmatch(inner):
        return re.compile(expression)
    import regex

    return regex.compile(expression, regex.VERSION0)
