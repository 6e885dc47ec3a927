"""The tasks of a bank that is to be trained: a folder with one dataset a file, and perhaps an index of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.bank.names import unsafe_ids
from lorameta.base_model.templates import FindChat, rendered
from lorameta.data import ReadOptions, ReadReport, read_examples
from lorameta.data.files import FORMATS, format_of
from lorameta.data.locate import stem_of
from lorameta.data.split import Parts, split_examples
from lorameta.errors import DataError, LorametaError
from lorameta.files import json_text
from lorameta.files.links import user_path

INDEX = "index.json"
#: Field of an index → the types it may have.
_KINDS: dict[str, type] = {"family": str, "definition": str, "licence": str, "source": dict}


@dataclass(frozen=True)
class Task:
    """One dataset that an adapter is trained on; `id` is its file's name without the ending."""

    id: str
    file: Path
    family: str = ""
    definition: str = ""
    licence: str = ""
    source: dict[str, Any] = field(default_factory=dict)


def find_tasks(folder: str | PathLike[str], index: str | PathLike[str] | None = None) -> list[Task]:
    """Return the tasks of a folder, sorted by id; their rows are not read yet.

    Parameters
    ----------
    folder : path
        With files of the formats that :func:`lorameta.load_examples` reads; others are ignored, as are hidden files.
    index : path, optional
        JSON: a list of objects with ``id`` and, if known, ``family``, ``definition``, ``licence`` (texts) and
        ``source`` (an object); or an object of such objects by id. By default ``index.json`` in the folder, if there
        is one. Other fields are ignored, and so are entries without a file.

    Raises
    ------
    DataError
        There is no folder or no dataset in it, two files have one id, an id is no safe file name, or the index is
        damaged; all violations.
    """
    root = user_path(folder)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give the one that holds the datasets, a file for each task")
    known = _read_index(user_path(index) if index is not None else root / INDEX, index is not None)
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(root.iterdir()):
        if format_of(path.name) and path.name != INDEX and not path.name.startswith(".") and path.is_file():
            files[stem_of(path)].append(path)
    if not files:
        raise DataError(f"{root} holds no dataset: no file that ends in {', '.join(FORMATS)}")
    problems = unsafe_ids(list(files))
    for name, paths in files.items():
        if len(paths) > 1:
            problems.append(f"{' and '.join(path.name for path in paths)} would both be the task {name!r}; rename one")
    DataError.raise_if(problems, f"the tasks in {root} cannot be told apart or named:")
    return [Task(name, paths[0], **known.get(name, {})) for name, paths in sorted(files.items())]


def read_rows(
    task: Task, *, prompt_template: str = "", chat: FindChat = lambda: None, reading: ReadOptions | None = None,
    reads: list[ReadReport] | None = None,
) -> Parts:  # fmt: skip
    """Return the rows of a task, as the bank's prompts, in their parts; DataError if they are too few or unreadable.

    `reads` gets what was made of their columns.
    """
    examples, report = read_examples(task.file, require_output=True, **(reading or ReadOptions()).as_dict())
    if reads is not None:
        reads.append(report)
    try:
        return split_examples(rendered(prompt_template, examples, chat))
    except DataError as error:
        raise DataError(f"{task.file} has {error}") from None


def _read_index(path: Path, wanted: bool) -> dict[str, dict[str, Any]]:
    try:
        content = json_text.read(path)
    except FileNotFoundError:
        if wanted:
            raise DataError(f"there is no index {path}") from None
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as the index of the tasks: {error}") from None
    if isinstance(content, dict):
        content = [{"id": name, **entry} if isinstance(entry, dict) else entry for name, entry in content.items()]
    problems: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(content if isinstance(content, list) else [], 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            problems.append(f"entry {number} is no object with an id")
            continue
        name = entry["id"]
        if name in found:
            problems.append(f"the id {name!r} is there twice")
        found[name] = {key: entry[key] for key in _KINDS if entry.get(key) is not None}
        for key, value in list(found[name].items()):
            if not isinstance(value, _KINDS[key]):
                problems.append(f"{name}: {key} is {value!r:.60}; it must be {_KINDS[key].__name__}")
    if not isinstance(content, list):
        problems.append("it is neither a list nor an object")
    DataError.raise_if(problems, f"{path} is no index of tasks:")
    return found


def reason(error: Exception) -> str:
    """Return an error of one task in one line, for a report of many."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    text = " ".join(lines[:3]) + (f" (and {len(lines) - 3} more lines)" if len(lines) > 3 else "")
    return text if isinstance(error, LorametaError) else f"{type(error).__name__}: {text}"
