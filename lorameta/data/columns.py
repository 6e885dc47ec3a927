"""Which columns of a row are prompt, answer, context, system message and history, by their names alone."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorameta.data.example import Example
from lorameta.data.values import plain

ROW_HINT = (
    "A row is {input, output}, {instruction, input, output}, {prompt, completion}, {question, answer}, {messages}, "
    "{conversations} or {text, label}; --input-column and --output-column name other columns."
)
#: Columns that hold a conversation, and those that hold a prompt; in the order in which they are tried.
CHATS = ("messages", "conversations", "conversation")
INPUTS = ("input", "instruction", "prompt", *CHATS, "question", "text", "chosen")
OUTPUTS = ("output", "completion", "response", "answer", "answers", "chosen", "label_text", "label", "target")
SYSTEM = ("system", "system_prompt")
CONTEXT = ("context",)
HISTORY = ("history",)

# Names that people give to these columns: only ever proposed in a message, never taken silently.
INPUT_LIKE = (
    *("query", "problem", "sentence", "utterance", "message", "document", "source", "content", "review"),
    *("hypothesis", "sentence1", "ctx"),
)
OUTPUT_LIKE = (
    *("labels", "targets", "reply", "intent", "category", "sentiment", "class", "summary", "solution", "translation"),
    *("gold", "expected", "expected_output", "ideal", "responses", "highlights", "ground_truth", "reference"),
)
CONTEXT_LIKE = (
    *("contexts", "passage", "document", "documents", "article", "paragraph", "background", "evidence", "knowledge"),
    *("premise", "hypothesis", "sentence1", "sentence2", "choices", "options", "tools", "functions", "persona"),
    *("choice1", "option1", "endings"),
)
_ANSWERS = frozenset((*OUTPUTS, *OUTPUT_LIKE))
#: Columns of prompts; a `source` is where a row comes from more often than not.
_SPARE = frozenset((*INPUTS, *INPUT_LIKE)) - {*CHATS, "source"}
_PROMPTS = frozenset((*SYSTEM, *CONTEXT, *HISTORY, *CONTEXT_LIKE, "instruction"))


def _said(name: object) -> str:
    return re.sub("[- ]+", "_", name.strip().lower()) if isinstance(name, str) and len(name) < 60 else ""


def looks_like_answers(name: object, *, nearly: bool = False) -> bool:
    """Check whether a column of this name may hold answers; `nearly` takes misspelt names as well."""
    said = _said(name)
    return said in _ANSWERS or (nearly and bool(difflib.get_close_matches(said, OUTPUTS, 1, 0.7)))


def looks_like_context(name: object) -> bool:
    """Check whether a column of this name may be a part of the prompt."""
    return _said(name) in _PROMPTS


@dataclass(frozen=True)
class Columns:
    """Columns that are meant, where their names do not say so.

    Attributes
    ----------
    input, output : str, optional
        The columns of prompt and answer.
    context : tuple of str
        Columns that stand before the prompt, besides `context`.
    ignore : frozenset of str
        Columns that are left out, whatever their names.
    """

    input: str | None = None
    output: str | None = None
    context: tuple[str, ...] = ()
    ignore: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class ColumnRoles:
    """The parts that the columns of a row can play."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    system: tuple[str, ...]
    context: tuple[str, ...]
    history: tuple[str, ...]
    instruction: bool
    instructed: frozenset[str]  # columns whose text may have an instruction in a column of its own
    suspects: tuple[str, ...]  # columns that look like answers or context, which rows may leave out
    spare: tuple[str, ...]  # columns that may be prompts, of which a row takes one

    @property
    def readable(self) -> frozenset[Any]:
        """All columns that rows can make use of."""
        names = {*self.inputs, *self.outputs, *self.system, *self.context, *self.history}
        return frozenset(names | ({"instruction"} if self.instruction else set()))


def roles_of(keys: Collection[Hashable], columns: Columns) -> ColumnRoles:
    """Return the parts that columns of these names can play."""
    present = {key for key in keys if key not in columns.ignore}
    taken = {columns.input, columns.output, *columns.context} - {None}
    free = present - taken
    outputs = (columns.output,) if columns.output is not None else tuple(n for n in OUTPUTS if n in free)
    if columns.input is not None:
        inputs: tuple[str, ...] = (columns.input,)
    else:
        inputs = tuple(name for name in INPUTS if name in free)
        if not outputs:  # a dialogue goes before a `prompt` or `text` that has no answer beside it
            inputs = tuple(sorted(inputs, key=lambda name: name not in CHATS))
    context = (*(n for n in CONTEXT if n in free), *columns.context)
    system = tuple(n for n in SYSTEM if n in free)
    history = tuple(n for n in HISTORY if n in free)
    instructed = {"input", columns.input} - {"instruction", None}
    idle = present - {*inputs, *context, *system, *history, columns.output}
    idle -= {"instruction"}  # stands before an input, or is one itself
    return ColumnRoles(
        inputs,
        outputs,
        system,
        context,
        history,
        "instruction" in free,
        frozenset(instructed),  # type: ignore[arg-type]
        tuple(str(n) for n in keys if n in idle and (looks_like_answers(n) or looks_like_context(n))),
        () if columns.input is not None else tuple(str(n) for n in keys if n in free and n in _SPARE),
    )


def spare_prompts(
    row: Mapping[str, Any], spare: Sequence[str], used: Collection[str | None], example: Example
) -> list[str]:
    """Return the columns of prompts that a row does not use, and whose text is no other spelling of what it uses.

    A column that repeats the prompt, or holds the whole row as one text, is left out for good reason.
    """
    said = [text for _, text in example.turns] or [plain(row.get(name)) for name in used if name]
    parts = [part.strip() for part in said if isinstance(part, str) and part.strip()]
    found = []
    for name in spare:
        text = plain(row.get(name))
        if name in used or not isinstance(text, str) or not text.strip() or text.strip() in example.input:
            continue
        if not any(part in text for part in parts):
            found.append(name)
    return found
