"""The regular expressions of a tokenizer: refused where they could keep the tokenizers library busy.

That library matches with Oniguruma, which backtracks and gives up a search after ten million steps, a tenth of a
second; a text has as many searches as characters. So what no known tokenizer writes is refused before it is used:
a repetition of what is itself optional, repeated or a choice, more than three long repetitions in one alternative,
references to groups, and calls. The expressions of GPT-2, tiktoken (also the possessive ones), Llama 3, Qwen,
DeepSeek, BLOOM and Mistral's Tekken pass.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lorameta.errors import BankError
from lorameta.files import json_text
from lorameta.files.links import reason

#: Characters, depth of groups, size of a counted repetition, and long repetitions in one alternative, at most.
_LENGTH, _DEPTH, _COUNT, _LONG = 20_000, 20, 1000, 3
#: A repetition that ends before this many is no long one.
_SHORT = 4
_GROUPS = (":", "=", "!", "<=", "<!", ">")
_FLAGS = set("imxaud-")


class _Refused(ValueError):
    """Why an expression is refused."""


def check_patterns(file: Path) -> None:
    """Read a ``tokenizer.json`` and refuse regular expressions that no tokenizer needs.

    Raises
    ------
    BankError
        The file cannot be read, or has such an expression.
    """
    try:
        data = json_text.read_bytes(file)
        content = json_text.decode(data, plain=True) if b'"Regex"' in data else {}
    except OSError as error:
        raise BankError(f"{file} cannot be read: {reason(error)}") from error
    except json_text.JsonError as error:
        raise BankError(f"{file} {error}; fetch the tokenizer again") from error
    parts = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    _require([content.get(part) for part in parts] if isinstance(content, dict) else [], str(file))


def check_parts(tokenizer: Any, name: str) -> None:
    """Refuse such expressions in a tokenizer of the tokenizers library that is there already; BankError."""
    parts = (tokenizer.normalizer, tokenizer.pre_tokenizer)
    _require([json.loads(part.__getstate__()) for part in parts if part is not None], f"the tokenizer of {name}")


def _require(parts: list[Any], where: str) -> None:
    for expression in _expressions(parts):
        if (why := problem(expression)) is not None:
            raise BankError(
                f"{where}: the regular expression {expression[:80]!r} {why}, which no known tokenizer does and which "
                "could take for ever; take the tokenizer from the base's own repository"
            )


def problem(expression: str) -> str | None:
    """Return why an expression is refused, as the end of a sentence; None if it is not."""
    if len(expression) > _LENGTH:
        return f"has more than {_LENGTH:,} characters"
    scanner = _Scanner(expression)
    try:
        scanner.choice(0)
        if scanner.at < len(expression):
            return "closes a group that it does not open"
    except _Refused as error:
        return str(error)
    except IndexError:
        return "ends too early"
    return None


def _expressions(parts: list[Any]) -> list[str]:
    """Return every regular expression of the parts of a tokenizer."""
    waiting = list(parts)
    found: list[str] = []
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(expression := one.get("Regex"), str):
                found.append(expression)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


class _Scanner:
    """Walks through an expression once; `at` is where it is."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def choice(self, depth: int) -> tuple[bool, int, int]:
        """Pass over alternatives, up to the end or a closing parenthesis.

        Returns whether they can match one text in several ways, the most long repetitions of any of them, and how
        large they are with all counted repetitions written out.
        """
        if depth > _DEPTH:
            raise _Refused(f"nests groups more than {_DEPTH} deep")
        loose, long, size = self._alternative(depth)
        while self._next() == "|":
            self.at += 1
            _, more, large = self._alternative(depth)
            loose, long, size = True, max(long, more), size + large
        return loose, long, size

    def _alternative(self, depth: int) -> tuple[bool, int, int]:
        loose, long, size = False, 0, 0
        while (mark := self._next()) not in ("", "|", ")"):
            inner, more, large, group = False, 0, 1, mark == "("
            if mark in "*+?":
                raise _Refused("repeats nothing")
            if group:
                inner, more, large = self._group(depth)
            elif mark == "[":
                self._set()
            elif mark == "\\":
                self._escape()
            else:
                self.at += 1
            least, most = self._times(last=not group)
            if inner and most > 1:
                raise _Refused("repeats what is itself optional, repeated or a choice")
            size += large * max(1, least if math.isinf(most) else int(most))
            if size > _LENGTH:
                raise _Refused(f"is longer than {_LENGTH:,} characters with its repetitions written out")
            loose |= inner or least != most
            long += more + (least != most and most > _SHORT)
            if long > _LONG:
                raise _Refused(f"has more than {_LONG} long repetitions in one alternative")
        return loose, long, size

    def _group(self, depth: int) -> tuple[bool, int, int]:
        self.at += 1
        if self._next() == "*":
            raise _Refused("has a callout")
        if self._next() == "?":
            self.at += 1
            self._kind()
            if self.text[self.at - 1] == ")":  # flags for what follows
                return False, 0, 0
        found = self.choice(depth + 1)
        if self._next() != ")":
            raise _Refused("does not close a group")
        self.at += 1
        return found

    def _kind(self) -> None:
        """Pass over what stands behind ``(?``."""
        rest = self.text[self.at : self.at + 20]
        if (kind := next((one for one in _GROUPS if rest.startswith(one)), None)) is not None:
            self.at += len(kind)
            return
        flags = len(rest) - len(rest.lstrip("".join(_FLAGS)))
        if flags and rest[flags : flags + 1] in (":", ")"):
            self.at += flags + 1
            return
        raise _Refused("has a group of an uncommon kind")

    def _set(self) -> None:
        depth = 0
        while True:
            mark = self.text[self.at]
            self.at += 2 if mark == "\\" else 1
            depth += (mark == "[") - (mark == "]")
            if depth == 0:
                return

    def _escape(self) -> None:
        mark = self.text[self.at + 1]
        if mark in "123456789kg":
            raise _Refused("refers to a group")
        self.at += 2
        if mark in "pPxo" and self._next() == "{":
            self.at = self.text.index("}", self.at) + 1 if "}" in self.text[self.at :] else len(self.text)

    def _times(self, *, last: bool) -> tuple[int, float]:
        """Pass over a quantifier, and what makes it lazy or possessive; return how often at least and at most."""
        found: tuple[int, float] = (1, 1)
        mark = self._next()
        simple: dict[str, tuple[int, float]] = {"*": (0, float("inf")), "+": (1, float("inf")), "?": (0, 1)}
        if mark in simple:
            self.at += 1
            found = simple[mark]
            if self._next() == "+":  # possessive: no way back into it
                self.at += 1
                found = (found[0], found[0]) if mark != "?" else found
            elif self._next() == "?":
                self.at += 1
        elif mark == "{" and (counts := self._counts()) is not None:
            found = counts
            if self._next() == "+" and last and self.text[self.at + 1 : self.at + 2] in ("", "|", ")"):
                self.at += 1  # possessive in tiktoken, a repetition here, behind which nothing can fail
            elif self._next() == "?":
                self.at += 1
        if self._next() in ("*", "+", "?"):
            raise _Refused("repeats a repetition")
        return found

    def _counts(self) -> tuple[int, float] | None:
        """Return the bounds of ``{n,m}``, and pass over it; None where the brace is only a brace."""
        stop = self.text.find("}", self.at)
        low, comma, high = self.text[self.at + 1 : max(stop, self.at + 1)].partition(",")
        if stop < 0 or not all(part.isascii() and (part.isdigit() or not part) for part in (low, high)):
            return None
        if not (low or high):
            return None
        if max(len(low), len(high)) > 5 or max(int(low or 0), int(high or 0)) > _COUNT:
            raise _Refused(f"repeats something more than {_COUNT} times by count")
        self.at = stop + 1
        least = int(low or 0)
        return least, (float(high) if high else float("inf")) if comma else least

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]
