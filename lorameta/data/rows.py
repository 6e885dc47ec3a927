"""One row, however it is spelt, as a prompt and its answers; what cannot be used is refused with the reason."""

from __future__ import annotations

import difflib
import functools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ROW_HINT = (
    "A row is {input, output}, {instruction, input, output}, {prompt, completion}, {messages} or {text}; "
    "--input-column and --output-column name other columns."
)
_INPUTS = ("input", "instruction", "prompt", "messages", "text")
_OUTPUTS = ("output", "completion")
# Names that people give to these columns: only ever proposed in an error message, never taken silently.
_INPUT_LIKE = ("question", "query", "sentence", "utterance", "message", "document", "source", "content", "review")
_OUTPUT_LIKE = ("answer", "label", "target", "response", "reply", "labels", "intent", "category", "summary", "answers")
_ROLES = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}


class RowError(ValueError):
    """Why one row cannot be used; `hint` is advice that is said once, not for every row."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class JsonNumber(str):
    """A number of a JSON file, kept as it was written: 1.50 stays 1.50."""


class DuplicatedKeys(dict[str, Any]):
    """A JSON object in which a key appears twice: which of the two values is meant cannot be known."""

    key: str = ""


def instruction_prompt(instruction: str, input: str = "") -> str:
    """The prompt of an instruction and its input, in the form of the embedded bank's tasks.

    Parameters
    ----------
    instruction : str
        What to do.
    input : str, default ""
        What to do it with; a blank one is left out.

    Returns
    -------
    str
        ``"Definition: {instruction}\\n\\nInput: {input}\\n\\nOutput:"``, both stripped of surrounding whitespace.
    """
    middle = f"Input: {input.strip()}\n\n" if input.strip() else ""
    return f"Definition: {instruction.strip()}\n\n{middle}Output:"


def read_row(
    row: object, input_column: str | None = None, output_column: str | None = None, require_output: bool = True
) -> tuple[str, tuple[str, ...]]:
    """The prompt and the reference answers of a row.

    Parameters
    ----------
    row : object
        A mapping in one of the forms of `lorameta.data.load_examples`; anything else is an error.
    input_column, output_column : str, optional
        Columns that stand for `input` and `output`.
    require_output : bool, default True
        Whether a row without an answer is an error.

    Returns
    -------
    tuple of str and tuple of str
        The prompt, not blank, and the answers, none of them blank; () for an unlabelled row.

    Raises
    ------
    RowError
        The row cannot be used. The message says why, but not where: the caller knows the place.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"the row is {_kind(row)}, not an object with named columns", ROW_HINT)
    if isinstance(row, DuplicatedKeys):
        raise RowError(f"the key {row.key!r} appears twice in the row; keep one")
    if not row:
        raise RowError("the row is an empty object", ROW_HINT)
    name = _input_name(row, input_column)
    if name == "messages":
        prompt, answers = _conversation(_plain(row[name]))
        if output_column is not None:
            answers = _answers(row, name, output_column, require_output)
        elif require_output and not answers:
            raise RowError("`messages` does not end with an answer: the last message must be the assistant's")
    else:
        prompt, answers = (
            _prompt(row, name, input_column is not None),
            _answers(row, name, output_column, require_output),
        )
    return prompt, answers


def _input_name(row: Mapping[str, Any], input_column: str | None) -> str:
    if input_column is not None:
        if input_column not in row:
            raise RowError(_absent(row, f"no column {input_column!r}", (input_column,), "--input-column"))
        return input_column
    for name in _INPUTS:
        if name in row and not _missing(_plain(row[name])):
            return name
    for name in _INPUTS:
        if name in row:
            raise RowError(f"`{name}` is {_kind(_plain(row[name]))}; a prompt is needed")
    raise RowError(_absent(row, "no input column", (*_INPUTS, *_INPUT_LIKE), "--input-column"), ROW_HINT)


def _prompt(row: Mapping[str, Any], name: str, mapped: bool) -> str:
    value = _plain(row[name])
    text = "" if _missing(value) else _text(value, name)
    if name == "instruction" and not mapped and text.strip():
        return instruction_prompt(text)
    # `prompt` and `text` hold the whole prompt; `input`, or the column that stands for it, may have an instruction
    if (name == "input" or mapped) and name != "instruction" and not _missing(_plain(row.get("instruction"))):
        instruction = _text(_plain(row["instruction"]), "instruction")
        if instruction.strip():
            return instruction_prompt(instruction, text)
    if not text.strip():
        what = _kind(value) if _missing(value) else "only whitespace" if text else "empty"
        raise RowError(f"`{name}` is {what}; a prompt is needed")
    return text


def _answers(row: Mapping[str, Any], name: str, column: str | None, required: bool) -> tuple[str, ...]:
    if column is not None:
        if column not in row:
            raise RowError(_absent(row, f"no column {column!r}", (column,), "--output-column"))
    else:
        present = [output for output in _OUTPUTS if output in row and output != name]
        column = next(
            (output for output in present if not _missing(_plain(row[output]))), present[0] if present else None
        )
    if column is None:
        if not required:
            return ()
        what = "no output column"
        if name == "text":
            what += " (`text` alone does not say where the prompt ends and the answer begins)"
        raise RowError(_absent(row, what, (*_OUTPUTS, *_OUTPUT_LIKE), "--output-column", name), ROW_HINT)
    value = _plain(row[column])
    if isinstance(value, (list, tuple)):
        if not value and required:
            raise RowError(f"`{column}` is an empty list; an answer is needed")
        answers = tuple(_text(_plain(item), f"{column}[{index}]").strip() for index, item in enumerate(value))
        if "" in answers:
            raise RowError(f"`{column}[{answers.index('')}]` is empty")
        return answers
    if _missing(value) and not required:
        return ()
    # Surrounding whitespace is invisible in an answer, but it would double the space that joins it to the prompt.
    answer = _text(value, column).strip()
    if not answer and required:
        raise RowError(f"`{column}` is empty; an answer is needed")
    return (answer,) if answer else ()


def _conversation(messages: object) -> tuple[str, tuple[str, ...]]:
    if not isinstance(messages, (list, tuple)) or not messages:
        kind = "an empty list" if isinstance(messages, (list, tuple)) else _kind(messages)
        raise RowError(f"`messages` is {kind}; a list of {{role, content}} is needed")
    turns = [_turn(_plain(message), f"messages[{index}]") for index, message in enumerate(messages)]
    answers: tuple[str, ...] = ()
    if turns[-1][0] == "Assistant":
        answers = (turns.pop()[1].strip(),)
    system = "\n\n".join(content for role, content in turns if role == "System")
    dialogue = [(role, content) for role, content in turns if role != "System"]
    if len(dialogue) == 1 and dialogue[0][0] == "User":
        spoken = dialogue[0][1]
    else:
        spoken = "\n".join(f"{role}: {content}" for role, content in dialogue)
        if dialogue and not system:
            spoken += "\nAssistant:"
    if not (spoken.strip() or system):
        raise RowError("`messages` has no message before the answer")
    return (instruction_prompt(system, spoken) if system else spoken), answers


def _turn(message: object, where: str) -> tuple[str, str]:
    if isinstance(message, DuplicatedKeys):
        raise RowError(f"the key {message.key!r} appears twice in `{where}`; keep one")
    if not isinstance(message, Mapping):
        raise RowError(f"`{where}` is {_kind(message)}; an object {{role, content}} is needed")
    absent = [key for key in ("role", "content") if key not in message]
    if absent:
        raise RowError(f"`{where}` has no {' and no '.join(absent)}; keys there: {_names(message)}")
    role = message["role"]
    if not isinstance(role, str) or role not in _ROLES:
        raise RowError(f"`{where}.role` is {role!r}; it must be system, developer, user or assistant")
    content = _text(_plain(message["content"]), f"{where}.content")
    if not content.strip():
        raise RowError(f"`{where}.content` is empty")
    return _ROLES[role], content


def _text(value: object, name: str) -> str:
    if isinstance(value, str):
        text = str(value)
    elif isinstance(value, bool):
        raise RowError(f"`{name}` is {_kind(value)}; write it as text, for example yes or no")
    elif isinstance(value, numbers.Number) and not _missing(value) and math.isfinite(value):  # type: ignore[arg-type]
        text = str(value)
    else:
        raise RowError(f"`{name}` is {_kind(value)}; text or a number is needed")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise RowError(f"`{name}` has half of a surrogate pair (a broken \\u escape), which no encoding can hold")
    return text


def _plain(value: Any) -> Any:
    """A numpy scalar or array, or a missing value of pandas, as plain Python."""
    if value is None or isinstance(value, (str, int, float, list, tuple, dict)):
        # numpy's float64 and str_ are subclasses of these and behave as they do
        return value
    if type(value).__name__ in ("NAType", "NaTType"):
        return math.nan
    return value.tolist() if hasattr(value, "tolist") else value


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN (a missing value)" if math.isnan(value) else "infinite"
    if isinstance(value, (JsonNumber, numbers.Number)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"of type {type(value).__name__}"


def _names(columns: Iterable[object]) -> str:
    names = [str(name)[:40] or "(no name)" for name in columns]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _absent(row: Mapping[str, Any], what: str, wanted: Sequence[str], option: str, used: str | None = None) -> str:
    """What is missing, the columns that are there, and the one that was probably meant (not the one in use)."""
    return _absence(tuple(map(str, row)), what, tuple(wanted), option, used)


@functools.lru_cache(maxsize=64)  # a file in which every row lacks the same column asks the same each time
def _absence(columns: tuple[str, ...], what: str, wanted: tuple[str, ...], option: str, used: str | None) -> str:
    lowered = {column.strip().lower(): column for column in columns if column != used}
    nearest = next((lowered[name.lower()] for name in wanted if name.lower() in lowered), None)
    if nearest is None:
        close = (difflib.get_close_matches(name.lower(), lowered, 1, 0.7) for name in wanted)
        nearest = next((lowered[match[0]] for match in close if match), None)
    advice = f"; did you mean {option} {nearest!r}?" if nearest is not None else ""
    return f"{what}; columns here: {_names(columns)}{advice}"
