"""Datasets in, examples out: every bad row is named by its place, and every column is accounted for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from lorameta.data import answers
from lorameta.data.columns import ROW_HINT, Columns, looks_like_answers, looks_like_context
from lorameta.data.example import Example
from lorameta.data.files import read_file
from lorameta.data.hub import HubDataset, hub_name
from lorameta.data.locate import all_files, files_of, stem_of
from lorameta.data.objects import object_rows
from lorameta.data.problems import Problems
from lorameta.data.report import ReadReport
from lorameta.data.rows import RowReader
from lorameta.data.values import RowError
from lorameta.errors import DataError, LorametaWarning, UsageError

Dataset: TypeAlias = (
    "str | os.PathLike[str] | HubDataset | Iterable[Mapping[str, Any]] | Iterable[Example] | Iterable[os.PathLike]"
)
"""What stands for a dataset: a path, a name on the Hub, a list of paths or dicts, a `datasets.Dataset`, an iterable."""


def load_examples(dataset: Dataset, **options: Any) -> list[Example]:
    """Read a dataset; the options are those of :func:`read_examples`.

    Returns
    -------
    list of Example
        One for each row, in their order, at least one.

    Examples
    --------
    >>> from lorameta import load_examples
    >>> load_examples([{"question": "2 + 2?", "answer": 4}, {"question": "2 + 3?", "answer": 5}])
    [Example(input='2 + 2?', outputs=('4',)), Example(input='2 + 3?', outputs=('5',))]
    """
    return read_examples(dataset, stacklevel=3, **options)[0]


def read_examples(
    dataset: Dataset,
    *,
    input_column: str | None = None,
    output_column: str | None = None,
    context_columns: Sequence[str] = (),
    ignore_columns: Sequence[str] = (),
    require_output: bool = True,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    quoting: str = "auto",
    stacklevel: int = 2,
) -> tuple[list[Example], ReadReport]:
    """Read a dataset, and say what was made of its columns.

    Parameters
    ----------
    dataset : path, list of paths, or iterable of mappings or Examples
        A JSONL, JSON, CSV, TSV or Parquet file (a JSON file is a list of objects, or an object that holds one such
        list, as ``{"data": [...]}``), also packed with gzip, bzip2, xz or zstd; a folder of such files; a folder of
        `Dataset.save_to_disk`; a pattern, as ``train-*.parquet``; several of these. Or the name of a dataset on the
        Hub, ``author/name``, or a :class:`lorameta.data.HubDataset`, which says which part. Or a list of dicts, a
        `datasets.Dataset`, a data frame of pandas or polars, an Arrow table, any iterable of dicts.
    input_column, output_column : str, optional
        Columns that play the part of `input` and `output` (command line: ``--input-column``, ``--output-column``).
    context_columns : sequence of str
        Columns that stand before the prompt (``--context-column``). A column `context` does so without being named.
    ignore_columns : sequence of str
        Columns that are left out, whatever their names (``--ignore-column``).
    require_output : bool, default True
        Whether a row without an answer is an error; otherwise it is an unlabelled example.
    encoding : str, default "utf-8"
        Of a text file; a byte order mark is always accepted.
    delimiter : str, optional
        What separates the fields of a table (``--delimiter``): a character, or tab, comma, semicolon, pipe.
    quoting : {"auto", "minimal", "none"}
        Whether quotes enclose the fields of a table (``--quoting``); see :func:`lorameta.data.formats.table_rows`.

    Returns
    -------
    list of Example
        One for each row, in their order, at least one.
    ReadReport
        Columns used and left out, rows with answers.

    Raises
    ------
    DataError
        The file cannot be read, holds no rows, or has bad rows: all of them are listed, each as ``file:line: why``.
    UsageError
        An argument cannot work: an unknown encoding, or one column as both input and output.

    Warns
    -----
    LorametaWarning
        There is only one row, or all rows are equal; a column that looks like answers or context is not used; values
        were changed.

    Notes
    -----
    The forms of a row, in the order in which they are tried:

    - ``{input, output}``: the input is the prompt, verbatim.
    - ``{instruction, input, output}``: the prompt is ``"Definition: {instruction}\\n\\nInput: {input}\\n\\nOutput:"``,
      as in the banks; with a blank or absent input, ``"Definition: {instruction}\\n\\nOutput:"``.
    - ``{prompt, completion}``, ``{question, answer}``, ``{text, label}``: the prompt is verbatim.
    - ``{messages}``, a list of ``{role, content}``, or ``{conversations}``, a list of ``{from, value}``, or such a list
      as the row: the last message, if it is the assistant's, is the output. What is before it are the turns, which a
      bank or a training puts into the chat template of its base. As plain text, for a base that has none, one user
      message is the prompt verbatim, a longer dialogue is one line a message,
      ``"User: ...\\nAssistant: ...\\nUser: ...\\nAssistant:"``. With system messages these are the instruction, in the
      form above, and the dialogue is its input. Calls of tools are written as JSON, and their results as ``Tool:``.
    - ``{prompt, completion}`` or ``{prompt, chosen}`` of which one or both are lists of messages.
    - ``{chosen}`` alone: a dialogue that ends with the preferred answer.
    - ``{text}``: a prompt without an answer.

    The answer is in `output`, `completion`, `response`, `answer`, `answers`, `chosen`, `label_text`, `label` or
    `target`, the first of these that is there. Beside any form, `context` is the input of an instruction, or stands
    before the prompt; `system` is a system message; `history`, a list of pairs, are earlier turns.

    An answer may be a list; the first counts, all are references. Whitespace around an answer is dropped, and NUL
    characters are. Numbers are read as text, exactly as a JSON file writes them; other types are errors. Null and NaN
    count as absent. Integers that a missing value turned into 1.0 are integers again.
    """
    columns = _columns(input_column, output_column, context_columns, ignore_columns)
    reader = RowReader(columns, require_output)
    notes: list[str] = []
    files: list[Path] = []
    hub: dict[str, Any] = {}
    wanted = dataset if isinstance(dataset, HubDataset) else HubDataset(found) if (found := hub_name(dataset)) else None
    if wanted is not None:
        name = wanted.name
        loaded, hub = wanted.load()
        problems = Problems(name, f"{name}: row ")
        rows = object_rows(loaded)
    elif paths := _paths(dataset):
        files = files_of(paths[0]) if len(paths) == 1 else all_files(paths)
        name = os.fspath(paths[0]) if len(paths) == 1 else f"{len(paths)} files"
        problems = Problems(name, f"{name}:")
        how = {"wanted": reader.wanted, "delimiter": delimiter, "quoting": quoting, "notes": notes}
        rows = _file_rows(files, encoding, problems, reader, how)
    else:
        name = "the dataset"
        problems = Problems(name, "row ")
        rows = object_rows(dataset)
    examples: list[Example] = []
    for line, row in rows:
        if isinstance(row, Example):
            if row.outputs or not require_output:
                examples.append(row)
                continue
            row = {"input": row.input, "output": []}
        try:
            examples.append(reader.read(row))
        except RowError as error:
            problems.add(line, str(error), error.hint)
    problems.raise_if_any()
    if not examples:
        raise DataError(f"{name} holds no rows: at least one is needed (a table has rows below its header). {ROW_HINT}")
    examples = answers.integers(examples, reader.counts, notes)
    report = replace(report_of(name, examples, reader, [str(path) for path in files if len(files) > 1], notes), hub=hub)
    few = _few(name, examples) if reader.seen else ()  # Examples were read, and warned of, before
    for message in (*_doubts(report, reader, problems), *few):
        warnings.warn(message, LorametaWarning, stacklevel=stacklevel)
    return examples, report


def dataset_name(dataset: object) -> str:
    """Return a short name for a dataset: the file's name without its extension, "dataset" for objects."""
    return stem_of(Path(dataset)) or "dataset" if isinstance(dataset, (str, os.PathLike)) else "dataset"


def _columns(
    input_column: str | None, output_column: str | None, context: Sequence[str], ignore: Sequence[str]
) -> Columns:
    if isinstance(context, str) or isinstance(ignore, str):
        raise UsageError("context_columns and ignore_columns are lists of names")
    given = {"--input-column": [input_column], "--output-column": [output_column], "--context-column": context}
    used: dict[str, str] = {}
    for option, names in ({**given, "--ignore-column": ignore}).items():
        for name in names:
            if name is None:
                continue
            if not isinstance(name, str) or not name:
                raise UsageError(f"{option} must be the name of a column, not {name!r}")
            if name in used and not option == used[name] == "--ignore-column":
                raise UsageError(f"{used[name]} and {option} are both {name!r}; they must differ")
            used[name] = option
    return Columns(input_column, output_column, tuple(context), frozenset(ignore))


def _paths(dataset: object) -> list[str | os.PathLike[str]]:
    """Return the paths that a dataset is given by; [] if it is an object with rows."""
    if isinstance(dataset, (str, os.PathLike)):
        return [dataset]
    if isinstance(dataset, (list, tuple)) and dataset and all(isinstance(one, (str, os.PathLike)) for one in dataset):
        return list(dataset)
    return []


def _file_rows(
    files: Sequence[Path], encoding: str, problems: Problems, reader: RowReader, how: Mapping[str, Any]
) -> Iterator[tuple[int, object]]:
    for path in files:
        problems.place = f"{path}:"
        reader.schema = None
        yield from read_file(path, encoding, problems, **how)


def report_of(
    name: str, examples: Sequence[Example], reader: RowReader, files: Sequence[str] = (), notes: Sequence[str] = ()
) -> ReadReport:
    """Return what a reader made of the columns of the rows that it read."""
    notes = list(notes)
    if reader.nul:
        notes.append(f"NUL characters were removed from {reader.nul} rows")
    used = {*reader.prompt, *reader.answer}
    return ReadReport(
        source=name,
        rows=len(examples),
        labelled=sum(bool(row.outputs) for row in examples),
        prompt=tuple(reader.prompt),
        answer=tuple(reader.answer),
        left_out=tuple(column for column in reader.seen if column not in used),
        files=tuple(files),
        notes=tuple(dict.fromkeys(notes)),
    )


def _doubts(report: ReadReport, reader: RowReader, problems: Problems) -> Iterator[str]:
    """Yield what may not have been meant: columns that look like answers or context and are not used, changed text."""
    idle = [name for name in report.left_out if name not in reader.columns.ignore and name not in reader.counts]
    left = [name for name in idle if name in reader.suspects]
    if not report.labelled:
        likely = [name for name in left if looks_like_answers(name)]
        likely += [name for name in idle[:100] if not likely and looks_like_answers(name, nearly=True)]
        for name in likely[:1]:
            yield (
                f"no row of {report.source} has an answer, but the column {name!r} looks like answers and is not "
                f"used: --output-column {name} uses it"
            )
    for name in idle:
        if name in reader.spare or (name in reader.suspects and looks_like_context(name)):
            yield (
                f"the column {name!r} of {report.source} looks like a part of the prompt and is not used: "
                f"--context-column {name} uses it, --ignore-column {name} says that it is not meant"
            )
    for key in reader.unspoken:
        yield f"{report.source}: `{key}` beside what is said in a turn is left out"
    for note in (*report.notes, *answers.doubts(reader.counts, 0 if "label" in reader.columns.ignore else reader.bad)):
        yield f"{report.source}: {note}"
    for message, places in problems.doubts.items():
        also = f" (also at {', '.join(places[1:])})" if places[1:] else ""
        yield f"{places[0]}: {message}{also}"


def _few(name: str, examples: Sequence[Example]) -> Iterator[str]:
    if len(examples) == 1:
        yield f"{name} has only one row: one row says little about a task, give a few dozen if you can"
    elif all(example == examples[0] for example in examples):
        yield f"all {len(examples)} rows of {name} are equal: they say no more about the task than one"
