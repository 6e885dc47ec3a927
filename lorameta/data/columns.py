"""Which columns of a row are prompt, answer, context, system message and history, by their names alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

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
INPUT_LIKE = ("query", "sentence", "utterance", "message", "document", "source", "content", "review")
OUTPUT_LIKE = (
    *("labels", "targets", "reply", "intent", "category", "sentiment", "class", "summary", "solution", "translation"),
    *("gold", "expected", "expected_output", "ideal", "responses", "highlights", "ground_truth", "reference"),
)
CONTEXT_LIKE = (
    *("contexts", "passage", "document", "documents", "article", "paragraph", "background", "evidence", "knowledge"),
    *("premise", "hypothesis", "sentence1", "sentence2", "choices", "options", "tools", "functions", "persona"),
)


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

    @property
    def readable(self) -> frozenset[Any]:
        """All columns that rows can make use of."""
        names = {*self.inputs, *self.outputs, *self.system, *self.context, *self.history}
        return frozenset(names | ({"instruction"} if self.instruction else set()))


def roles_of(keys: Iterable[Hashable], columns: Columns) -> ColumnRoles:
    """Return the parts that columns of these names can play."""
    present = {key for key in keys if key not in columns.ignore}
    taken = {columns.input, columns.output, *columns.context} - {None}
    outputs = (columns.output,) if columns.output is not None else tuple(n for n in OUTPUTS if n in present - taken)
    if columns.input is not None:
        inputs: tuple[str, ...] = (columns.input,)
    else:
        free = present - taken
        inputs = tuple(name for name in INPUTS if name in free)
        if not outputs:  # a dialogue goes before a `prompt` or `text` that has no answer beside it
            inputs = tuple(sorted(inputs, key=lambda name: name not in CHATS))
    context = (*(n for n in CONTEXT if n in present - taken), *columns.context)
    system = tuple(n for n in SYSTEM if n in present - taken)
    history = tuple(n for n in HISTORY if n in present - taken)
    instructed = {"input", columns.input} - {"instruction", None}
    idle = present - {*inputs, *context, *system, *history, columns.output}
    return ColumnRoles(
        inputs,
        outputs,
        system,
        context,
        history,
        "instruction" in present - taken,
        frozenset(instructed),  # type: ignore[arg-type]
        tuple(name for name in (*OUTPUTS, *OUTPUT_LIKE, *CONTEXT_LIKE) if name in idle),
    )
