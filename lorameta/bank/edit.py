"""The one way to change a bank: `update`. Readers see the old bank or the new one, and a killed writer leaves the old.

A bank is what its ``bank.json`` says. New files come under names that nothing has yet, ``bank.json`` is replaced as
the last step, and what it named before stays for an hour (`lorameta.bank.garbage`). So a reader never waits, and reads
what it opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.bank.garbage import STAGING, delete_expired, named_by, retire
from lorameta.bank.lock import clear_work, locked, work_folder
from lorameta.bank.manifest import MANIFEST, inside, parse_manifest
from lorameta.bank.parse import parse
from lorameta.bank.records import Manifest
from lorameta.encoder.storage import to_bytes
from lorameta.encoder.summary import Summaries
from lorameta.errors import BankError, LorametaError, UsageError, violations
from lorameta.files import json_text
from lorameta.files.atomic import sha256, write_file
from lorameta.files.links import reason, user_path

#: How often a writer starts over because another one, whom no lock could stop, was quicker.
_TRIES = 20


@dataclass(frozen=True)
class Change:
    """What becomes of a bank.

    Attributes
    ----------
    manifest : Manifest
        The new one. Its entry ``summaries`` is filled in.
    summaries : Summaries, optional
        Of the new manifest's adapters, in any order. Without them the bank keeps those it has, less the adapters that
        were removed.
    moves : mapping of str to Path
        Path in the bank → finished file or directory that is to be moved there, on the same file system (see
        :func:`staging`). Nothing may be there yet, except the same file.
    """

    manifest: Manifest
    summaries: Summaries | None = None
    moves: Mapping[str, Path] = field(default_factory=dict)


def update(directory: str | PathLike[str], change: Callable[[Manifest], Manifest | Change]) -> Manifest:
    """Change a bank, alone and as a whole.

    Takes the bank's lock (:func:`lorameta.bank.lock.locked`), reads ``bank.json``, calls `change`, moves in new files,
    writes new summaries as ``summaries-<16 hex digits>.safetensors``, and then ``bank.json``. What only the old one
    names is deleted by a writer who comes an hour later.

    Parameters
    ----------
    directory : path
        Of a bank.
    change : callable
        Is given the manifest as it is now, and returns the new one, or a :class:`Change`. Called again if another
        writer was quicker on a file system without locks, so it must not have done anything that cannot be repeated.

    Returns
    -------
    Manifest
        As written.

    Raises
    ------
    BankError
        There is no bank, or what `change` returned is no valid one; nothing is changed.
    LorametaError
        The directory cannot be written, or is being written to by another process; the old bank is intact.
    """
    root = user_path(directory).resolve()
    if not (root / MANIFEST).is_file():
        raise BankError(f"{root} is not a bank: there is no {MANIFEST}. Make one with: lorameta bank build")

    def known(manifest: Manifest | None) -> Manifest | Change:
        if manifest is None:
            raise BankError(f"{root} is not a bank any more: {MANIFEST} is gone")
        return change(manifest)

    return write(root, known)


def write(root: Path, change: Callable[[Manifest | None], Manifest | Change]) -> Manifest:
    """As :func:`update`, but also where there is no bank yet: `change` is given None then."""
    moved: dict[Path, str] = {}
    with locked(root) as alone:
        for _ in range(_TRIES):
            before = _read(root)
            found = change(None if before is None else parse_manifest(root, before))
            found = found if isinstance(found, Change) else Change(found)
            if (manifest := _commit(root, before, found, moved)) is not None:
                with contextlib.suppress(OSError, LorametaError):  # tidiness is no reason to fail
                    delete_expired(root, manifest, alone=alone)
                return manifest
    raise LorametaError(f"other processes changed {root} {_TRIES} times meanwhile; try again when they are done")


def tidy(root: Path) -> None:
    """Delete what killed writers left, where there is nothing else to do; what cannot be deleted stays."""
    with contextlib.suppress(OSError, LorametaError), locked(root) as alone:
        if (before := _read(root)) is not None:
            delete_expired(root, parse_manifest(root, before), alone=alone)


def replace_bank(root: Path, before: Manifest | None, change: Change) -> None:
    """Write a bank in the place of `before`, or where there was none; UsageError if there is another one by now."""

    def checked(now: Manifest | None) -> Change:
        if now != before:
            raise UsageError(f"another process changed {root} meanwhile; run the same command again")
        return change

    write(root, checked)


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """A new, empty directory inside a bank for what is about to be moved in; emptied afterwards, or by a later writer.

    Nothing in it is part of the bank. See :attr:`Change.moves`.
    """
    name = uuid.uuid4().hex[:12]
    folder = work_folder(root, STAGING, name)
    try:
        yield folder
    finally:
        clear_work(root, STAGING, name)


def free_path(root: Path, manifest: Manifest | None, id: str) -> str:
    """Return where the directory of a new adapter goes: ``adapters/<id>``, or one beside it where something is
    already."""
    taken = {record.path.lower() for record in manifest.adapters} if manifest else set()
    path = f"adapters/{id}"
    while path.lower() in taken or os.path.lexists(root / path):
        path = f"adapters/{id}.{uuid.uuid4().hex[:8]}"
    return path


def _commit(root: Path, before: bytes | None, change: Change, moved: dict[Path, str]) -> Manifest | None:
    """Write a change; None if ``bank.json`` is no longer what it was."""
    old = None if before is None else parse_manifest(root, before)
    summaries = change.summaries if change.summaries is not None else _kept(root, old, change.manifest)
    manifest, data = _complete(old, change.manifest, summaries)
    text = _encode(root, manifest)
    if _read(root) != before:
        return None
    coming, going = named_by(manifest), named_by(old) if old else set()
    retire(root, (going - coming) | ((coming - going) | set(change.moves)))
    for target, source in change.moves.items():
        _move(root, target, source, moved)
    if data is not None:
        write_file(root / manifest.summaries["file"], data)
    sync(root)
    if _read(root) != before:
        return None
    write_file(root / MANIFEST, text)
    sync(root)
    return manifest


def _kept(root: Path, old: Manifest | None, manifest: Manifest) -> Summaries | None:
    """Return the summaries that a bank has, less those of removed adapters; None if they are all needed."""
    ids = [record.id for record in manifest.adapters]
    known = {record.id for record in old.adapters} if old else set()
    BankError.raise_if(sorted(set(ids) - known), "no summaries were handed over for these adapters:")
    if old is None or set(ids) == known:
        return None
    return Summaries.load(inside(root, old.summaries["file"])).select(ids)


def _complete(old: Manifest | None, manifest: Manifest, summaries: Summaries | None) -> tuple[Manifest, bytes | None]:
    """Return the manifest with what summaries say of themselves, and their file; no file if it stays the same."""
    if summaries is None:
        return replace(manifest, summaries=dict(old.summaries) if old else manifest.summaries), None
    ordered = summaries.select(sorted(record.id for record in manifest.adapters))
    data = to_bytes(ordered)
    encoders: dict[str, dict[str, Any]] = {key: dict(value) for key, value in manifest.encoders.items()}
    if ordered.token_counts is not None:
        encoders["tokens"] = {"tokenizer_hash": ordered.tokenizer_hash, **encoders.get("tokens", {})}
    if ordered.means is not None:
        encoders["sentence"] = {"model": ordered.sentence_model, **encoders.get("sentence", {})}
    digest = sha256(data)
    if old is not None and old.summaries["sha256"] == digest:
        return replace(manifest, encoders=encoders, summaries=dict(old.summaries)), None
    entry = {"file": f"summaries-{digest[:16]}.safetensors", "sha256": digest, "bytes": len(data)}
    return replace(manifest, encoders=encoders, summaries=entry), data


def _encode(root: Path, manifest: Manifest) -> bytes:
    """Return the bytes of ``bank.json``; BankError with everything in it that cannot be."""
    try:
        text = json.dumps(manifest.as_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        content = json_text.decode(text.encode())
    except (ValueError, TypeError, RecursionError) as error:
        raise BankError(f"no bank was written to {root}: the recipe or a record cannot be JSON: {error}") from None
    problems: list[str] = []
    if parse(content, problems) is None:
        raise BankError(violations(problems, f"no bank was written to {root}:"))
    return text.encode()


def _read(root: Path) -> bytes | None:
    try:
        return (root / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BankError(f"{root / MANIFEST} cannot be read: {reason(error)}") from None


def _move(root: Path, target: str, source: Path, moved: dict[Path, str]) -> None:
    """Put a finished file or directory in its place; a repeated try finds it where the first one put it."""
    place = inside(root, target)
    here = root / moved[source] if source in moved else source
    try:
        if here != place:
            place.parent.mkdir(parents=True, exist_ok=True)
            (here.replace if here.is_file() else here.rename)(place)
            sync(place.parent)
    except OSError as error:
        raise LorametaError(f"cannot write {place}: {reason(error)}; the bank is what it was before") from error
    moved[source] = target


def sync(folder: Path) -> None:
    """Make renames in a directory last, where the system can; without it a power cut may undo or reorder them."""
    with contextlib.suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
