"""The base of a new bank: on the Hub, in a directory of this machine, or carried along in the bank."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorameta.bank.hub.contents import BASE_SUFFIXES, TOKENIZER_FILES
from lorameta.bank.records import BaseRecord
from lorameta.bank_builder.copying import copy_file, keep_only
from lorameta.errors import BankError, UsageError
from lorameta.files import json_text
from lorameta.files.links import file_of, make_folder, user_path

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_FILES = tuple(f"*{suffix}" for suffix in BASE_SUFFIXES)


@dataclass
class BankBase:
    """What is known of a base before there is a bank.

    Attributes
    ----------
    record : BaseRecord
        As the manifest will say; the hashes of files that are carried along are not in it yet.
    directory : Path or None
        Where it is on this machine; None on the Hub.
    tokenizer : Path or None
        Directory with its ``tokenizer.json``.
    carried : list of Path
        Directories to move into the bank: ``base``, ``tokenizer``.
    """

    record: BaseRecord
    directory: Path | None = None
    tokenizer: Path | None = None
    carried: list[Path] = field(default_factory=list)


def find_base(
    root: Path,
    base: str,
    *,
    revision: str | None = None,
    name: str | Sequence[str] | None = None,
    tokenizer: str | None = None,
    carry: bool = False,
    said: Iterable[str] = (),
) -> BankBase:
    """Make out what `base` is, and what adapters may call it.

    Parameters
    ----------
    root : Path
        Where the bank will be. A base below it belongs to the bank; any other directory is carried along with `carry`,
        else named by its absolute path: such a bank works on this machine only.
    base : str
        A directory, or a Hub id.
    revision : str, optional
        Of a Hub id.
    name : str or sequence of str, optional
        What the adapters' configurations call the base. By default, of a directory, what its ``config.json`` says
        that it is, or the path under which the adapters know this very directory.
    tokenizer : str, optional
        Directory of its ``tokenizer.json``; by default the base's.
    carry : bool
    said : iterable of str
        ``base_model_name_or_path`` of the adapters.

    Raises
    ------
    UsageError
        The base or its tokenizer is not there, or the options do not fit it.
    """
    path = user_path(base)
    names = [name] if isinstance(name, str) else list(name or ())
    tokens = None if tokenizer is None else user_path(tokenizer).resolve()
    if tokens is not None and not (tokens / "tokenizer.json").is_file():
        raise UsageError(f"--tokenizer: there is no {tokens / 'tokenizer.json'}")
    if not path.is_dir():
        if not _HUB_ID.fullmatch(base):
            raise UsageError(f"--base: there is no directory {base}, and it is no id of the Hub (owner/name) either")
        if carry:
            raise UsageError(f"--copy-base is for a base in a directory; {base} is none, so it is an id of the Hub")
        return BankBase(BaseRecord(base, revision=revision, also=tuple(names)), None, tokens)
    path = path.resolve()
    if revision is not None:
        raise UsageError(f"--revision is for a base on the Hub; {path} is a directory")
    inside = path.is_relative_to(root) and path != root
    model = path.relative_to(root).as_posix() if inside else "base" if carry else str(path)
    if tokens is None and (path / "tokenizer.json").is_file():
        tokens = path
    called: list[str | None] = [*names] or [_name_of(path, said)]
    first, *others = called
    return BankBase(BaseRecord(model, name=first, also=tuple(filter(None, others))), path, tokens)


def stage(base: BankBase, root: Path, folder: Path, *, link: bool = False) -> dict[str, Path]:
    """Copy what the bank must carry into `folder`; returns the moves: path in the bank → staged directory."""
    moves: dict[str, Path] = {}
    own = base.directory is not None and base.directory.is_relative_to(root)
    carried = base.directory is not None and base.record.model == "base" and not own
    if carried and base.directory is not None:
        files = sorted({path for pattern in _FILES for path in base.directory.glob(pattern) if path.is_file()})
        if not files:
            raise BankError(f"base: {base.directory} holds no file of a model ({', '.join(_FILES)})")
        _copy(files, folder / "base", link)
        moves["base"] = folder / "base"
    holds = base.directory if carried or own else None
    if base.tokenizer is not None and (holds is None or not (holds / "tokenizer.json").is_file()):
        files = [base.tokenizer / name for name in TOKENIZER_FILES if (base.tokenizer / name).is_file()]
        _copy(files, folder / "tokenizer", False)
        moves["tokenizer"] = folder / "tokenizer"
    return moves


def _copy(files: list[Path], target: Path, link: bool) -> None:
    """Copy files that are not there already, whole and unchanged, from a run before."""
    make_folder(target)
    keep_only(target, {file.name for file in files})
    for file in files:
        copy_file(file_of(file.parent, file.name), target / file.name, link=link, reuse=True)


def _name_of(base: Path, said: Iterable[str]) -> str | None:
    """Return what adapters call a base that is a directory: the name in its config, or the path most of them know it
    by."""
    config = json_text.read_object(base / "config.json") or {}
    known = str(config.get("_name_or_path") or "")
    names = Counter(name for name in said if name and (name == known or _same(name, base)))
    return names.most_common(1)[0][0] if names else known or None


def _same(name: str, base: Path) -> bool:
    try:
        return user_path(name).resolve() == base
    except (OSError, RuntimeError, ValueError):
        return False
