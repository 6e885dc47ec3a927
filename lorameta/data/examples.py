"""Datasets in, examples out: files, lists of dicts and `datasets.Dataset`s, with every bad row named by its place."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from lorameta.data.files import read_file
from lorameta.data.formats import Problems
from lorameta.data.rows import ROW_HINT, RowError, instruction_prompt, read_row
from lorameta.errors import DataError, LorametaWarning, UsageError

__all__ = ["Dataset", "Example", "dataset_name", "fingerprint", "instruction_prompt", "join_prompt", "load_examples"]

Dataset: TypeAlias = "str | os.PathLike[str] | Iterable[Mapping[str, Any]] | Iterable[Example]"
"""What stands for a dataset: a path, a list of dicts, a `datasets.Dataset`, any iterable of dicts or of Examples."""


def join_prompt(prompt: str, answer: str) -> str:
    """Prompt and answer as one text: what the model is trained and scored on.

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
    """

    input: str
    outputs: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """The first reference, or "" if there is none."""
        return self.outputs[0] if self.outputs else ""

    @property
    def text(self) -> str:
        """Prompt and first reference as one text, see `join_prompt`."""
        return join_prompt(self.input, self.output)


def load_examples(
    dataset: Dataset,
    *,
    input_column: str | None = None,
    output_column: str | None = None,
    require_output: bool = True,
    encoding: str = "utf-8",
) -> list[Example]:
    """Read a dataset.

    Parameters
    ----------
    dataset : path, or iterable of mappings or Examples
        A JSONL, JSON, CSV, TSV or Parquet file (a JSON file is a list of objects, or an object that holds one such
        list, as ``{"data": [...]}``); a list of dicts, a `datasets.Dataset`, a pandas DataFrame, any iterable of dicts.
    input_column, output_column : str, optional
        Columns that play the part of `input` and `output` (command line: ``--input-column``, ``--output-column``).
    require_output : bool, default True
        Whether a row without an answer is an error; otherwise it is an unlabelled example.
    encoding : str, default "utf-8"
        Of a text file; a byte order mark is always accepted.

    Returns
    -------
    list of Example
        One for each row, in their order, at least one.

    Raises
    ------
    DataError
        The file cannot be read, holds no rows, or has bad rows: all of them are listed, each as ``file:line: why``.
    UsageError
        An argument cannot work: an unknown encoding, or one column as both input and output.

    Warns
    -----
    LorametaWarning
        There is only one row, or all rows are equal.

    Notes
    -----
    The forms of a row, in the order in which they are tried; columns that play no part are ignored:

    - ``{input, output}``: the input is the prompt, verbatim.
    - ``{instruction, input, output}``: the prompt is ``"Definition: {instruction}\\n\\nInput: {input}\\n\\nOutput:"``,
      as in the embedded bank; with a blank or absent input, ``"Definition: {instruction}\\n\\nOutput:"``.
    - ``{prompt, completion}``: the prompt is verbatim.
    - ``{messages}``, a list of ``{role, content}``: the last message, if it is the assistant's, is the output. What is
      before it is the prompt: one user message is taken verbatim, a longer dialogue is one line a message,
      ``"User: ...\\nAssistant: ...\\nUser: ...\\nAssistant:"``. With system messages these are the instruction, in the
      form above, and the dialogue is its input.
    - ``{text}``: a prompt without an answer.

    `output` may be a list; the first counts, all are references. Whitespace around an output is dropped. Numbers
    are read as text, exactly as a JSON file writes them; other types are errors. Null and NaN count as absent.
    """
    for option, column in (("--input-column", input_column), ("--output-column", output_column)):
        if column is not None and (not isinstance(column, str) or not column):
            raise UsageError(f"{option} must be the name of a column, not {column!r}")
    if input_column is not None and input_column == output_column:
        raise UsageError(f"--input-column and --output-column are both {input_column!r}; they must differ")
    rows: Iterator[tuple[int, object]]
    if isinstance(dataset, (str, os.PathLike)):
        name = str(dataset)
        problems = Problems(name, f"{name}:")
        rows = read_file(dataset, encoding, problems)
    else:
        name = "the dataset"
        problems = Problems(name, "row ")
        rows = _iterate(dataset)
    examples: list[Example] = []
    for line, row in rows:
        try:
            examples.append(Example(*read_row(row, input_column, output_column, require_output)))
        except RowError as error:
            problems.add(line, str(error), error.hint)
    problems.raise_if_any()
    if not examples:
        raise DataError(f"{name} holds no rows: at least one is needed (a table has rows below its header). {ROW_HINT}")
    if len(examples) == 1:
        message = f"{name} has only one row: one row says little about a task, give a few dozen if you can"
        warnings.warn(message, LorametaWarning, stacklevel=2)
    elif all(example == examples[0] for example in examples):
        message = f"all {len(examples)} rows of {name} are equal: they say no more about the task than one"
        warnings.warn(message, LorametaWarning, stacklevel=2)
    return examples


def dataset_name(dataset: object) -> str:
    """A short name for a dataset: the file's name without its extension, "dataset" for objects."""
    return Path(dataset).stem or "dataset" if isinstance(dataset, (str, os.PathLike)) else "dataset"


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 (64 hexadecimal digits) of the rows; their order does not matter, their number and content do."""
    rows = sorted(
        hashlib.sha256(json.dumps([example.input, *example.outputs]).encode("ascii")).digest() for example in examples
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()


def _iterate(dataset: object) -> Iterator[tuple[int, object]]:
    if hasattr(dataset, "to_dict") and hasattr(dataset, "columns"):  # a pandas DataFrame iterates over column names
        dataset = dataset.to_dict(orient="records")
    if isinstance(dataset, Mapping):
        parts = ", ".join(map(repr, list(dataset)[:6]))
        raise DataError(
            f"A dataset is a list of rows, not one mapping (keys {parts}): pass one part, or a list of dicts."
        )
    if not isinstance(dataset, Iterable) or isinstance(dataset, (bytes, bytearray)):
        kind = type(dataset).__name__
        raise DataError(
            f"A dataset is a path or an iterable of dicts, not {'None' if dataset is None else f'of type {kind}'}."
        )
    for number, row in enumerate(dataset, 1):
        if isinstance(row, Example):
            row = {"input": row.input, "output": list(row.outputs)}
        yield number, row
