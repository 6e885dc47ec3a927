"""`Example`: one row of a dataset, as the model reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Turn: TypeAlias = tuple[str, str]
"""Who speaks (System, User, Assistant or Tool) and what."""


def join_prompt(prompt: str, answer: str) -> str:
    """Return prompt and answer as one text: what the model is trained and scored on.

    Parameters
    ----------
    prompt, answer : str
        Either may be empty.

    Returns
    -------
    str
        Both with one space between them; with none if the prompt ends in whitespace or one of them is empty.
    """
    if not prompt or not answer or prompt[-1].isspace():
        return prompt + answer
    return f"{prompt} {answer}"


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a dataset.

    Attributes
    ----------
    input : str
        The whole prompt, as the model will read it.
    outputs : tuple of str
        The reference answers. The first counts for training and for summaries; () for an unlabelled row.
    turns : tuple of (str, str)
        Of a conversation: who said what before the answer. Its input is these as plain text, until
        :func:`lorameta.base_model.templates.rendered` puts them into the chat template of a base. () for other rows;
        equality is that of the texts.
    """

    input: str
    outputs: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = field(default=(), repr=False, compare=False)

    @property
    def output(self) -> str:
        """The first reference, or "" if there is none."""
        return self.outputs[0] if self.outputs else ""

    @property
    def text(self) -> str:
        """Prompt and first reference as one text, see `join_prompt`."""
        return join_prompt(self.input, self.output)


def fingerprint(examples: Sequence[Example]) -> str:
    """Return the SHA-256 (64 hexadecimal digits) of the rows: their number and content count, their order does not."""
    rows = sorted(
        hashlib.sha256(json.dumps([example.input, *example.outputs]).encode("ascii")).digest() for example in examples
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()
