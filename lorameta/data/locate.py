"""What a user names as a dataset, as files: one file, a folder, a pattern, several of them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from lorameta.data.compressed import ENDINGS
from lorameta.data.files import FORMATS, format_of
from lorameta.errors import DataError, violations
from lorameta.files import json_text

#: Files beside the rows in folders of `datasets` and of the Hub, which hold none.
_BESIDE = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json", "index.json", "metadata.json"}
_SPLIT = re.compile(r"(?:^|[-_./])(train|test|validation|valid|val|dev|eval)(?=[-_.]|$)", re.IGNORECASE)
_PART = {"valid": "validation", "val": "validation", "dev": "validation", "eval": "test"}


def files_of(dataset: str | os.PathLike[str]) -> list[Path]:
    """Return the files that a name stands for, in the order in which they are read.

    Parameters
    ----------
    dataset : path
        A file; a folder with files of one part (as ``train-00000-of-00002.parquet``), also below ``data/``; a folder
        of `Dataset.save_to_disk`; or a pattern, as ``shards/*.jsonl.gz``.

    Raises
    ------
    DataError
        There are no such files, or they are of several parts; the message names them.
    """
    name = os.fspath(dataset)
    path = Path(name)
    try:
        folder, there = path.is_dir(), path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return [path]
    if folder or there:
        return _folder(path) if folder else [path]
    if glob.has_magic(name):
        found = sorted(Path(one) for one in glob.iglob(name, recursive=True) if Path(one).is_file())  # noqa: PTH207
        if not found:
            raise DataError(f"no file fits the pattern {name}")
        return found
    return [path]


def all_files(datasets: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the files of several names; DataError lists what is wrong with all of them, or a file given twice."""
    found: dict[Path, None] = {}
    problems = []
    for dataset in datasets:
        try:
            for path in files_of(dataset):
                if path in found:
                    problems.append(f"{path} is given twice")
                found[path] = None
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(violations(problems, "these files cannot be read together:") if problems[1:] else problems[0])
    return list(found)


def _folder(folder: Path) -> list[Path]:
    """Return the files of rows in a folder."""
    try:
        if (folder / "dataset_dict.json").is_file():
            parts = [entry.name for entry in sorted(folder.iterdir()) if (entry / "state.json").is_file()]
            if len(parts) == 1:
                return _folder(folder / parts[0])
            raise DataError(
                f"{folder} is a DatasetDict with the parts {', '.join(parts) or '(none)'}: name one of them, as "
                f"{folder / (parts[0] if parts else 'train')}"
            )
        if (folder / "state.json").is_file() and (saved := _saved(folder)):
            return saved
        entries = sorted(folder.iterdir(), key=_natural)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}") from None
    found = [entry for entry in entries if _has_rows(entry)]
    if not found and (folder / "data").is_dir():
        return _folder(folder / "data")
    if not found:
        arrow = [entry for entry in entries if entry.suffix == ".arrow" and entry.is_file()]
        if arrow:
            return arrow
        raise DataError(f"{folder} is a directory without a file of rows ({', '.join(FORMATS)}, also .gz and .zst)")
    parts_of: dict[str, list[Path]] = {}
    for entry in found:
        match = _SPLIT.search(entry.name)
        part = match[1].lower() if match else ""
        parts_of.setdefault(_PART.get(part, part), []).append(entry)
    if len(parts_of) > 1:
        listed = [f"{part or 'no part'}: {', '.join(p.name for p in paths[:4])}" for part, paths in parts_of.items()]
        heading = f"{folder} holds files of several parts, which are not read together:"
        raise DataError(violations(listed, heading, f"Name the files that are meant, as {found[0]} or a pattern."))
    first: dict[str, Path] = {}
    for entry in found:
        if (other := first.setdefault(stem_of(entry), entry)) is not entry:
            raise DataError(
                f"{folder} holds {other.name} and {entry.name}, which seem to be the same rows: name the one you mean"
            )
    return found


def stem_of(entry: Path) -> str:
    """Return the name of a file without the endings of its format and compression."""
    return (entry.with_suffix("") if entry.suffix.lower() in ENDINGS else entry).stem


def _has_rows(entry: Path) -> bool:
    return (
        format_of(entry.name) is not None
        and entry.name not in _BESIDE
        and not entry.name.startswith((".", "_"))
        and entry.is_file()
    )


def _saved(folder: Path) -> list[Path]:
    """Return the files that `Dataset.save_to_disk` wrote, in their order; [] if it did not."""
    try:
        state = json_text.read(folder / "state.json")
        names = [entry["filename"] for entry in state["_data_files"]]
        safe = [name for name in names if isinstance(name, str) and Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    lacking = [name for name in names if name not in safe or not (folder / name).is_file()]
    if lacking:
        raise DataError(f"{folder} was written by save_to_disk, but {str(lacking[0])!r} is not in it")
    return [folder / name for name in safe]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort part2 before part10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", path.name)]
