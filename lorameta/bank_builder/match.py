"""Which adapter belongs to which dataset: folders matched by name, and the index file for those that do not match."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.adapter import peft_format
from lorameta.bank.names import unsafe_ids
from lorameta.data.files import format_of, read_file
from lorameta.data.locate import stem_of
from lorameta.data.problems import Problems
from lorameta.errors import BankError, UsageError
from lorameta.files import json_text
from lorameta.files.links import user_path

#: Columns of an index file.
COLUMNS = ("id", "adapter", "dataset", "task", "family", "licence", "description", "source")


@dataclass(frozen=True)
class Source:
    """Where one adapter of a new bank comes from.

    Attributes
    ----------
    id : str
    adapter : Path
        Its PEFT directory.
    dataset : Path or None
        The rows it was trained on; None if a summary of them is given.
    facts : dict
        Fields of its :class:`~lorameta.bank.records.AdapterRecord`: task, family, licence, description, source.
    """

    id: str
    adapter: Path
    dataset: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def plan(
    adapters: str | PathLike[str],
    datasets: str | PathLike[str] | None = None,
    *,
    summarised: tuple[str, ...] | None = None,
    index: str | PathLike[str] | None = None,
) -> tuple[list[Source], list[str]]:
    """Match adapters with datasets.

    Parameters
    ----------
    adapters : path
        Directory with one PEFT directory for each adapter, whose name is the id.
    datasets : path, optional
        Directory with ``<id>.jsonl``, ``.json``, ``.csv``, ``.tsv`` or ``.parquet`` files.
    summarised : tuple of str, optional
        The ids whose summaries are given instead of datasets.
    index : path, optional
        A table (JSONL, JSON, CSV, TSV, Parquet) with a column ``id`` and any other of `COLUMNS`. Paths in it are
        relative to the two directories.

    Returns
    -------
    sources : list of Source
        Sorted by id.
    unused : list of str
        Datasets or summaries without an adapter, for a note.

    Raises
    ------
    BankError
        What cannot be matched; everything at once.
    UsageError
        A directory is missing.
    """
    root = _directory(adapters, "--adapters")
    rows = None if datasets is None else _directory(datasets, "--datasets")
    problems: list[str] = []
    entries = {} if index is None else _read_index(user_path(index), problems)
    files = _files(rows) if rows else {}
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    named = {(root / entry["adapter"]).resolve() for entry in entries.values() if entry.get("adapter")}
    ids = {name for name, path in folders.items() if path.resolve() not in named and _is_adapter(path)}
    # Directories that are no adapters at all are only complained about where nothing else is named.
    ids |= set(entries) | (set(folders) if not ids and not entries else set())
    problems += unsafe_ids(sorted(ids))
    sources, used = [], set()
    for name in sorted(ids):
        entry = entries.get(name, {})
        adapter = root / entry["adapter"] if entry.get("adapter") else folders.get(name, root / name)
        if not adapter.is_dir():
            problems.append(f"{name}: there is no directory {adapter}")
            continue
        dataset = None
        if summarised is None:
            found = [rows / entry["dataset"]] if rows and entry.get("dataset") else files.get(name, [])
            if not found or not found[0].is_file():
                problems.append(f"{name}: {_no_dataset(name, found, rows, files)}")
                continue
            if len(found) > 1:
                several = " and ".join(path.name for path in found)
                problems.append(f"{name}: has several datasets, {several}; keep one, or name it in an index")
            dataset = found[0]
            used.add(dataset.resolve())
        elif name not in summarised:
            problems.append(f"{name}: the summaries lack it{_near(name, summarised)}")
        facts = {key: entry[key] for key in ("family", "licence", "description", "source") if entry.get(key)}
        sources.append(Source(name, adapter, dataset, {"task": entry.get("task") or name, **facts}))
    if not ids:
        problems.append(f"{root} holds no directory with an {peft_format.CONFIG}; give the folder that holds adapters")
    BankError.raise_if(problems, "these adapters and datasets cannot become a bank:")
    if summarised is not None:
        return sources, sorted(set(summarised) - ids)
    return sources, sorted(path.name for found in files.values() for path in found if path.resolve() not in used)


def _directory(path: str | PathLike[str], option: str) -> Path:
    directory = user_path(path).resolve()
    if not directory.is_dir():
        raise UsageError(f"{option}: there is no directory {directory}")
    return directory


def _is_adapter(path: Path) -> bool:
    return any((path / name).exists() for name in (peft_format.CONFIG, peft_format.WEIGHTS, "adapter_model.bin"))


def _files(directory: Path) -> dict[str, list[Path]]:
    """Return the files with rows, by name without extension."""
    found: dict[str, list[Path]] = {}
    for path in sorted(directory.iterdir()):
        if path.is_file() and format_of(path.name) and not path.name.startswith("."):
            found.setdefault(stem_of(path), []).append(path)
    return found


def _no_dataset(name: str, found: list[Path], rows: Path | None, files: Mapping[str, list[Path]]) -> str:
    if rows is None:
        return "has no dataset; give --datasets, or --summaries"
    if found:
        return f"there is no file {found[0]}"
    return f"has no dataset: there is no {name}.jsonl (or .json, .csv, .tsv, .parquet) in {rows}{_near(name, files)}"


def _near(name: str, others: Any) -> str:
    near = difflib.get_close_matches(name, list(others), n=2)
    return f"; did you mean {', '.join(near)}? An index file can say so" if near else ""


def _read_index(path: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of the index by id."""
    bad = Problems(str(path), f"{path}:")
    entries: dict[str, dict[str, Any]] = {}
    for line, row in read_file(path, "utf-8", bad):
        if not isinstance(row, Mapping) or not row.get("id"):
            bad.add(line, "has no id", f"An index has the columns {', '.join(COLUMNS)}; only id is needed.")
            continue
        entry = {str(key): value for key, value in row.items() if value not in (None, "")}
        name = str(entry["id"])
        if unknown := sorted(set(entry) - set(COLUMNS)):
            bad.add(line, f"has the unknown column {', '.join(unknown)}", f"There are {', '.join(COLUMNS)}.")
        if name in entries:
            bad.add(line, f"the id {name!r} is there twice")
        if wrong := [key for key in COLUMNS[:-1] if not isinstance(entry.get(key, ""), (str, int, float))]:
            bad.add(line, f"{', '.join(wrong)} must be text")
        entries[name] = {key: value if key == "source" else str(value) for key, value in entry.items()}
        if "source" in entry:
            entries[name]["source"] = _source(entry["source"])
    bad.raise_if_any()
    return entries


def _source(value: Any) -> dict[str, Any]:
    """Return what a record says of the origin of its rows: an object, also as JSON text in a table; else its name."""
    if isinstance(value, Mapping):
        return dict(value)
    try:
        content = json_text.decode(value)
    except (TypeError, ValueError, AttributeError):
        content = None
    return content if isinstance(content, dict) else {"name": str(value)}
