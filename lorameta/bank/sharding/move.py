"""What `stack` and `unstack` share: how moved weights are named in ``bank.json``, and old files deleted after that."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from lorameta.adapter.lazy import LazyModules
from lorameta.adapter.peft_format import WEIGHTS
from lorameta.bank.edit import Change, update
from lorameta.bank.garbage import named_by
from lorameta.bank.lock import locked
from lorameta.bank.manifest import inside, read_manifest
from lorameta.bank.reader import AdapterReader
from lorameta.bank.records import AdapterRecord, Manifest
from lorameta.bank.sharding.shard import FOLDER, Shard
from lorameta.errors import BankError, LorametaError, UsageError, violations
from lorameta.files.links import reason

Progress = Callable[[int], object]
T = TypeVar("T")
#: Bytes that stay free on the disk.
_RESERVE = 1 << 26


@dataclass(frozen=True)
class Moved:
    """What was done.

    Attributes
    ----------
    adapters : int
        Whose weights were moved.
    shards : tuple of str
        Files that were written, or emptied.
    bytes : int
        Of the weights.
    changed : tuple of str
        Adapters that got another ``adapter_model.safetensors`` back than the one that was stacked: theirs had other
        names or another order inside. The numbers are the same.
    rounded : tuple of str
        Adapters of float64, which became float32.
    """

    adapters: int = 0
    shards: tuple[str, ...] = ()
    bytes: int = 0
    changed: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()

    def __add__(self, more: Moved) -> Moved:
        return Moved(*(getattr(self, one.name) + getattr(more, one.name) for one in fields(self)))


def move_all(
    root: Path,
    reader: AdapterReader,
    parts: Sequence[tuple[T, list[AdapterRecord]]],
    move: Callable[[T, list[AdapterRecord]], Moved],
) -> Moved:
    """Move adapters part by part; of one that cannot be moved, everything that is wrong with those left is said."""
    moved = Moved()
    for place, (key, records) in enumerate(parts):
        try:
            moved += move(key, records)
        except BankError as error:
            raise all_problems(reader, [one for _, left in parts[place:] for one in left], error) from None
        except OSError as error:
            raise not_written(root, error) from error
    return moved


def chosen(manifest: Manifest, ids: Iterable[str] | None) -> list[AdapterRecord]:
    """Return the records of some ids, or of all, sorted by id; UsageError if there are others."""
    wanted = None if ids is None else set(ids)
    if unknown := sorted((wanted or set()) - {record.id for record in manifest.adapters}):
        raise UsageError(f"the bank {manifest.name} has no adapter {', '.join(map(repr, unknown))}")
    chosen = [record for record in manifest.adapters if wanted is None or record.id in wanted]
    return sorted(chosen, key=lambda record: record.id)


def opened(reader: AdapterReader, record: AdapterRecord) -> LazyModules:
    """Return the weights of an adapter, left in their file; BankError if they cannot be used."""
    found, problems = reader.read(record.id, lazy=True)
    if found is None or problems or not isinstance(found.modules, LazyModules):
        raise BankError(violations(problems, f"{record.id} cannot be read:"))
    return found.modules


def commit(
    root: Path,
    records: list[AdapterRecord],
    new: Mapping[str, Mapping[str, Any]],
    shards: Mapping[str, dict[str, Any]],
    moves: Mapping[str, Mapping[str, Path]],
) -> list[AdapterRecord]:
    """Put the new fields of records into ``bank.json``; those that another writer changed meanwhile are left alone."""
    before = {record.id: record for record in records}
    done: list[AdapterRecord] = []

    def change(manifest: Manifest) -> Change:
        done[:] = [one for one in manifest.adapters if one.id in before and _place(one) == _place(before[one.id])]
        ids = {record.id for record in done}
        adapters = tuple(replace(one, **new[one.id]) if one.id in ids else one for one in manifest.adapters)
        kept = replace(manifest, shards={**manifest.shards, **shards}).shards_of(adapters)
        coming = {target: source for id in sorted(ids) for target, source in moves[id].items()}
        return Change(replace(manifest, adapters=adapters, shards=kept), moves=coming)

    update(root, change)
    return done


def _place(record: AdapterRecord) -> tuple[object, ...]:
    return record.path, record.sha256, record.config_sha256, record.shard, record.row


def discard(root: Path, paths: Iterable[str]) -> None:
    """Delete files that ``bank.json`` does not name (any more); what cannot be deleted is left to the next writer."""
    there = [path for path in dict.fromkeys(paths) if (root / path).is_file()]
    if not there:
        return
    with locked(root):
        named = {inside(root, path) for path in named_by(read_manifest(root))}
        for path in there:
            with contextlib.suppress(OSError):
                if inside(root, path) not in named:  # a link may lead to what another adapter needs
                    (root / path).unlink()
        with contextlib.suppress(OSError):
            (root / FOLDER).rmdir()  # if it is empty


def leftovers(root: Path, manifest: Manifest) -> list[str]:
    """Return what a run that was killed after its last step but one left behind: both copies of the same weights are
    there.

    Shards with rows of adapters that were removed are not among them: a reader may still want those.
    """
    found = [f"{record.path}/{WEIGHTS}" for record in manifest.adapters if record.shard]
    known = {record.id for record in manifest.adapters}
    for path in sorted(root.glob(f"{FOLDER}/*.safetensors")):
        file = f"{FOLDER}/{path.name}"
        if file in manifest.shards:
            continue
        with contextlib.suppress(BankError):
            shard = Shard(inside(root, file), path.stat().st_size)
            shard.file.close()
            if known.issuperset(shard.ids):
                found.append(file)
    return found


def require_room(root: Path, size: int) -> None:
    """LorametaError unless so many bytes, and some more, are free on the disk of a bank."""
    free = shutil.disk_usage(root).free
    if size and free < size + _RESERVE:
        raise LorametaError(
            f"the disk of {root} has {free / 1e9:.2f} GB free; {(size + _RESERVE) / 1e9:.2f} GB are needed, as old and "
            "new files lie side by side for a moment. Make room, or use smaller shards"
        )


def not_written(root: Path, error: OSError) -> LorametaError:
    """Return what to raise when the disk is full, read-only, ..."""
    why = reason(error)
    return LorametaError(f"cannot write to {root}: {why}; the bank is whole, and the next run goes on from here")


def all_problems(reader: AdapterReader, records: list[AdapterRecord], error: BankError) -> BankError:
    """Return everything that is wrong with the adapters that were still to be moved, not only what was found first."""
    problems = [f"{record.id}: {problem}" for record in records for problem in reader.read(record.id)[1]]
    if not problems:
        return error
    return BankError(violations(problems, "these adapters cannot be moved; what was moved before stays moved:"))
