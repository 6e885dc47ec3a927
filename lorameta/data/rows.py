"""One row, however it is spelt, as a prompt and its answers; what cannot be used is refused with the reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lorameta.data.answers import AnswerCounts, is_bad_answer
from lorameta.data.columns import (
    CHATS,
    INPUT_LIKE,
    INPUTS,
    OUTPUT_LIKE,
    OUTPUTS,
    ROW_HINT,
    ColumnRoles,
    Columns,
    roles_of,
    spare_prompts,
)
from lorameta.data.example import Example, Turn
from lorameta.data.turns import (
    answered,
    are_turns,
    history_of,
    instruction_prompt,
    preferred,
    spoken,
    turns_of,
    unspoken,
)
from lorameta.data.values import DuplicatedKeys, RowError, absence, blank, block_of, kind, missing, plain, text_of

#: Rows in which prompts are looked for that were not taken.
LOOKS = 20


class RowReader:
    """Reads rows one after the other and remembers which columns they used.

    Parameters
    ----------
    columns : Columns
        Which columns are meant where their names do not say so.
    require_output : bool, default True
        Whether a row without an answer is an error.

    Attributes
    ----------
    prompt, answer : dict of str to int
        Columns that were used, and in how many rows.
    seen : dict of str to None
        All columns, in the order in which they were met.
    nul : int
        Rows from which NUL characters were removed.
    bad : int
        Rows that say that their answer is a bad one.
    unspoken : dict of str to None
        What turns hold beside their content and is left out.
    spare : set of str
        Columns that may be prompts, of which other ones were taken, in one of the first rows.
    """

    def __init__(self, columns: Columns | None = None, require_output: bool = True) -> None:
        self.columns = columns or Columns()
        self.required = require_output
        self.prompt: dict[str, int] = {}
        self.answer: dict[str, int] = {}
        self.seen: dict[str, None] = {}
        self.suspects: set[str] = set()
        self.nul = self.bad = 0
        self.unspoken: dict[str, None] = {}
        self.spare: set[str] = set()
        self.looked = 0
        self.counts: dict[str, AnswerCounts] = {}
        self.schema: tuple[str, ...] | None = None
        self._roles: dict[tuple[Any, ...], ColumnRoles] = {}

    def wanted(self, schema: Sequence[str], empty: Collection[str] = ()) -> list[str]:
        """Return the columns of a table that rows can make use of; the others need not be read.

        `empty` are columns that hold nothing.
        """
        self.schema = tuple(schema)
        roles = self._roles_of(self.schema)
        self.suspects.update(set(roles.suspects) - set(empty))
        return [name for name in schema if name in roles.readable]

    def read(self, row: object) -> Example:
        """Return a row as an Example.

        Parameters
        ----------
        row : object
            A mapping in one of the forms of `lorameta.data.load_examples`, or a list of turns.

        Returns
        -------
        Example
            Its prompt is not blank, and none of its answers is; () for an unlabelled row.

        Raises
        ------
        RowError
            The row cannot be used. The message says why, but not where: the caller knows the place.
        """
        if isinstance(row, (list, tuple)) and are_turns(row):
            row = {"messages": row}
        if not isinstance(row, Mapping):
            raise RowError(f"the row is {kind(row)}, not an object with named columns", ROW_HINT)
        if isinstance(row, DuplicatedKeys):
            raise RowError(f"the key {row.key!r} appears twice in the row; keep one")
        if not row and not self.schema:
            raise RowError("the row is an empty object", ROW_HINT)
        roles = self._roles_of(tuple(row))
        for name in roles.suspects:
            if name not in self.suspects and not blank(row[name]):
                self.suspects.add(name)
        used: list[str] = []
        example, column = self._parts(row, roles, used)
        if roles.spare and self.looked < LOOKS:
            self.looked += 1
            self.spare.update(spare_prompts(row, roles.spare, {*used, column}, example))
        if "\0" in example.input or any("\0" in answer for answer in example.outputs):
            self.nul += 1
            example = Example(
                example.input.replace("\0", ""),
                tuple(answer.replace("\0", "").strip() for answer in example.outputs),
                tuple((role, content.replace("\0", "")) for role, content in example.turns),
            )
            if not example.input.strip() or "" in example.outputs:
                raise RowError(f"`{used[0]}` holds nothing but NUL characters")
        for name in used:
            self.prompt[name] = self.prompt.get(name, 0) + 1
        if column is not None:
            self.counts.setdefault(column, AnswerCounts()).add(example.outputs)
            if example.outputs:
                self.answer[column] = self.answer.get(column, 0) + 1
                self.bad += is_bad_answer(row, column)
        return example

    def _roles_of(self, keys: tuple[Any, ...]) -> ColumnRoles:
        roles = self._roles.get(keys)
        if roles is None:
            if len(self._roles) > 1000:  # rows of which each has other keys
                self._roles.clear()
            roles = self._roles[keys] = roles_of(keys, self.columns)
            for name in keys:
                if len(self.seen) < 10_000:
                    self.seen[str(name)] = None
        return roles

    def _parts(self, row: Mapping[str, Any], roles: ColumnRoles, used: list[str]) -> tuple[Example, str | None]:
        """Return prompt and answers, and the column of the answers; `used` gets the columns of the prompt."""
        name = self._input_name(row, roles)
        used.append(name)
        value = plain(row[name])
        column = self._output_name(row, roles, name)
        if name == "chosen" and self.columns.input is None:  # a preference without a prompt of its own
            return preferred(value), name
        is_chat = name in CHATS or are_turns(value)
        reply = plain(row[column]) if column is not None else None
        if is_chat or are_turns(reply):
            return self._conversation(row, roles, name, column, used, is_chat)
        prompt = self._prompt(row, roles, name, used)
        return Example(prompt, self._answers(row, column, name)), column

    def _input_name(self, row: Mapping[str, Any], roles: ColumnRoles) -> str:
        mapped = self.columns.input
        if mapped is not None:
            if mapped not in row:
                raise RowError(self._absent(row, f"no column {mapped!r}", (mapped,), "--input-column"))
            return mapped
        for name in roles.inputs:
            if not missing(plain(row[name])):
                return name
        for name in roles.inputs:
            raise RowError(f"`{name}` is {kind(plain(row[name]))}; a prompt is needed")
        other = "--output-column" if self.columns.output is None and not roles.outputs else None
        what = self._absent(row, "no input column", (*INPUTS, *INPUT_LIKE), "--input-column", other=other)
        raise RowError(what, ROW_HINT)

    def _output_name(self, row: Mapping[str, Any], roles: ColumnRoles, name: str) -> str | None:
        mapped = self.columns.output
        if mapped is not None:
            if mapped not in row:
                raise RowError(self._absent(row, f"no column {mapped!r}", (mapped,), "--output-column"))
            return mapped
        if name in CHATS and name != self.columns.input:
            return None  # the last message is the answer
        present = [output for output in roles.outputs if output != name]
        return next((output for output in present if not missing(plain(row[output]))), present[0] if present else None)

    def _extras(self, row: Mapping[str, Any], roles: ColumnRoles, used: list[str]) -> tuple[str, str, list[Turn]]:
        """Return the system message, the context and the earlier turns that stand in columns of their own."""
        found: list[list[str]] = []
        for group in (roles.system, roles.context):
            texts = []
            for name in group:
                if name not in row:
                    raise RowError(self._absent(row, f"no column {name!r}", (name,), "--context-column"))
                if not blank(row[name]):
                    try:
                        texts.append(block_of(plain(row[name]), name).strip())
                    except RowError as error:
                        hint = f"--ignore-column {name} leaves the column out."
                        raise RowError(str(error), error.hint or hint) from None
                    used.append(name)
            found.append(texts)
        turns: list[Turn] = []
        for name in roles.history:
            if not blank(row[name]) and (earlier := history_of(plain(row[name]), name)):
                turns += earlier
                used.append(name)
        return "\n\n".join(found[0]), "\n\n".join(found[1]), turns

    def _prompt(self, row: Mapping[str, Any], roles: ColumnRoles, name: str, used: list[str]) -> str:
        value = plain(row[name])
        text = "" if missing(value) else text_of(value, name)
        system, context, earlier = self._extras(row, roles, used)
        instruction = ""
        if name == "instruction" and self.columns.input is None:
            instruction, text = text, ""
        elif roles.instruction and name in roles.instructed and not missing(plain(row["instruction"])):
            instruction = text_of(plain(row["instruction"]), "instruction")
            if instruction.strip():
                used.insert(0, "instruction")
                if not text.strip():
                    used.remove(name)
        if not (text.strip() or instruction.strip()):
            what = kind(value) if missing(value) else "only whitespace" if text else "empty"
            raise RowError(f"`{name}` is {what}; a prompt is needed")
        if not instruction.strip():
            whole = f"{context}\n\n{text}" if context else text
        else:
            text = "\n\n".join(filter(None, (context, text.strip())))
            if not (system or earlier):
                return instruction_prompt(instruction, text)
            whole = f"{instruction.strip()}\n\n{text}" if text else instruction.strip()
        if not (system or earlier):
            return whole
        return spoken([("System", system)] * bool(system) + earlier + [("User", whole)])

    def _conversation(
        self, row: Mapping[str, Any], roles: ColumnRoles, name: str, column: str | None, used: list[str], is_chat: bool
    ) -> tuple[Example, str | None]:
        """Read a row of which the prompt, the answer or both are lists of turns."""
        value = plain(row[name])
        turns = turns_of(value, name) if is_chat else [("User", text_of(value, name))]
        answers: tuple[str, ...] | None = None
        reply = plain(row[column]) if column is not None else None
        self.unspoken.update(dict.fromkeys([*unspoken(value), *unspoken(reply)]))
        if column is not None and are_turns(reply):
            said = turns_of(reply, column)
            begun = [turn for turn in said if turn[0] != "System"][:1]
            # preference rows may repeat the prompt in front of each answer
            turns = said if begun and begun[0][0] == "User" and begun[0] in turns else turns + said
        elif column is not None:
            answers = self._answers(row, column, name)
        if answers is None:
            turns, answers = answered(turns)
            column = column or name
            if not answers and self.required:
                raise RowError(f"`{column}` does not end with an answer: the last message must be the assistant's")
        elif name in CHATS:  # the column of the answers replaces the one in the conversation
            turns = answered(turns)[0]
        system, context, earlier = self._extras(row, roles, used)
        before = [("System", text) for text in (system, context) if text and ("System", text) not in turns]
        turns = before + earlier + turns
        prompt = spoken(turns)
        if not prompt:
            raise RowError(f"`{name}` has no message before the answer")
        return Example(prompt, answers, tuple(turns)), column

    def _answers(self, row: Mapping[str, Any], column: str | None, name: str) -> tuple[str, ...]:
        if column is None:
            if not self.required:
                return ()
            what = "no output column"
            if name == "text":
                what += " (`text` alone does not say where the prompt ends and the answer begins)"
            raise RowError(self._absent(row, what, (*OUTPUTS, *OUTPUT_LIKE), "--output-column", name), ROW_HINT)
        value = plain(row[column])
        if isinstance(value, Mapping) and isinstance(plain(value.get("text")), (list, tuple)):  # SQuAD
            value = list(dict.fromkeys(plain(value["text"])))
        if isinstance(value, (list, tuple)):
            if not value and self.required:
                raise RowError(f"`{column}` is an empty list; an answer is needed")
            answers = tuple(text_of(plain(item), f"{column}[{index}]").strip() for index, item in enumerate(value))
            if "" in answers:
                raise RowError(f"`{column}[{answers.index('')}]` is empty")
            return answers
        if missing(value) and not self.required:
            return ()
        # Surrounding whitespace is invisible in an answer, but it would double the space that joins it to the prompt.
        answer = text_of(value, column).strip()
        if not answer and self.required:
            raise RowError(f"`{column}` is empty; an answer is needed")
        return (answer,) if answer else ()

    def _absent(self, row: Mapping[str, Any], *facts: Any, **more: Any) -> str:
        """Return what to say of a column that is not there, see :func:`absence`."""
        return absence(self.schema if self.schema is not None else tuple(map(str, row)), *facts, **more)
