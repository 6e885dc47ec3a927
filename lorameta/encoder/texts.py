"""The texts that the encoders read, checked once for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from lorameta.errors import DataError, violations


class HasText(Protocol):
    """What an encoder needs of an example: its prompt and first answer in one text, as the model would read them."""

    @property
    def text(self) -> str:
        """The text."""


def texts_of(examples: Iterable[HasText]) -> list[str]:
    """Return the examples' texts.

    Raises
    ------
    DataError
        If there is no example, or texts cannot be written in UTF-8 (which tokenizers need); all are listed.
    """
    texts = [example.text for example in examples]
    if not texts:
        raise DataError("the dataset has no rows; a summary needs at least one")
    if broken := [f"row {i}: {cause}" for i, text in enumerate(texts, 1) if (cause := _not_utf8(text))]:
        heading = "these rows hold half of a surrogate pair, which is no character:"
        raise DataError(violations(broken, heading, "Decode the file as UTF-16, or remove the half characters."))
    return texts


def _not_utf8(text: str) -> str | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"{text[error.start]!a} at character {error.start + 1}"
    return None
