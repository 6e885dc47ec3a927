"""Move the weights of a bank's adapters from their directories into shards, and back, bit by bit.

One shard after the other is written, named in ``bank.json`` (through :func:`lorameta.bank.edit.update`), and only then
are the files that it replaces deleted. So the bank is whole at every moment, needs room for one shard, and a run that
was killed is finished by the next. Readers that are open go on (:mod:`lorameta.bank.reader`).
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path

from lorameta.adapter.lazy import LazyModules
from lorameta.adapter.peft_format import WEIGHTS
from lorameta.bank.edit import staging
from lorameta.bank.hub.fetch import is_away
from lorameta.bank.manifest import inside, read_manifest
from lorameta.bank.reader import AdapterReader
from lorameta.bank.records import AdapterRecord, Manifest
from lorameta.bank.sharding.move import (
    Moved,
    Progress,
    chosen,
    commit,
    discard,
    leftovers,
    move_all,
    opened,
    require_room,
)
from lorameta.bank.sharding.shard import FOLDER, RowLayout, Shard, capacity, row_layout, shard_header, write_shard
from lorameta.errors import BankError, UsageError
from lorameta.files.links import user_path

#: Size of a shard in bytes, at most.
SHARD_BYTES = 4_000_000_000


def stack(
    directory: str | PathLike[str],
    *,
    shard_bytes: int = SHARD_BYTES,
    ids: Iterable[str] | None = None,
    restack: bool = False,
    progress: Progress | None = None,
) -> Moved:
    """Move the weights of adapters that have a file of their own into shards.

    Parameters
    ----------
    directory : path
        Of a bank.
    shard_bytes : int
        Size of a shard at most; one adapter is never divided.
    ids : iterable of str, optional
        Only these adapters.
    restack : bool
        Also rewrite shards that are not full or have rows of removed adapters.
    progress : callable, optional
        Told the number of bytes, each time that some were written.

    Returns
    -------
    Moved

    Raises
    ------
    UsageError
        An option cannot work.
    BankError
        There is no bank, or adapters are damaged: all of them, with all that is wrong. Shards that were finished stay.
    LorametaError
        There is not enough room, or the directory cannot be written.
    """
    if shard_bytes < 1:
        raise UsageError(f"a shard of {shard_bytes} bytes holds nothing; give 1 or more")
    root = user_path(directory).resolve()
    manifest = read_manifest(root)
    wanted = chosen(manifest, ids)
    if ids is None:  # what is on the Hub only stays there
        wanted = [record for record in wanted if not is_away(root, record)]
    small = {file for file, entry in manifest.shards.items() if "bits" in entry}
    wanted = [record for record in wanted if record.shard not in small]  # those of 8 bits stay so
    discard(root, leftovers(root, manifest))
    with contextlib.closing(AdapterReader(root, manifest)) as reader:
        layouts, rounded = _layouts(reader, [record for record in wanted if restack or not record.shard])
        plan = list(_plan(root, manifest, layouts, shard_bytes, restack))
        sizes = [shard_header(layout, [record.id for record in records])[1][""] for layout, records in plan]
        require_room(root, sum(sizes) if restack else max(sizes, default=0))

        def move(layout: RowLayout, records: list[AdapterRecord]) -> Moved:
            done, file = _write_one(root, reader, layout, records, progress or (lambda count: None))
            size = sum(record.bytes for record in done)
            lossy = tuple(record.id for record in done if record.id in rounded)
            return Moved(len(done), (file,) if done else (), size, rounded=lossy)

        return move_all(root, reader, plan, move)


def _layouts(
    reader: AdapterReader, records: list[AdapterRecord]
) -> tuple[dict[RowLayout, list[AdapterRecord]], set[str]]:
    """Return the records by layout, and the ids of those in float64; from the headers. BankError with all that is
    wrong."""
    layouts: dict[RowLayout, list[AdapterRecord]] = defaultdict(list)
    rounded, problems = set(), []
    for record in records:
        found, notes = reader.read(record.id, lazy=True)
        problems += [f"{record.id}: {note}" for note in notes]
        if found is None or notes or not isinstance(found.modules, LazyModules):
            continue
        layouts[row_layout(found.modules)].append(record)
        if found.modules.shard is None:
            if any(entry.dtype == "F64" for entry in found.modules.file.entries.values()):
                rounded.add(record.id)
            found.modules.file.close()
    BankError.raise_if(problems, "nothing was moved:")
    return layouts, rounded


def _plan(
    root: Path,
    manifest: Manifest,
    layouts: Mapping[RowLayout, Sequence[AdapterRecord]],
    shard_bytes: int,
    restack: bool,
) -> Iterator[tuple[RowLayout, list[AdapterRecord]]]:
    """Yield the shards to be written: layout and records in the order of the rows. Good shards are left as they are."""
    rows: dict[str, list[str]] = defaultdict(list)
    for record in sorted(manifest.adapters, key=lambda record: record.row or 0):
        if record.shard:
            rows[record.shard].append(record.id)
    whole = set()
    for file, ids in rows.items() if restack else ():
        shard = Shard(inside(root, file), manifest.shards[file]["bytes"])
        shard.file.close()
        if tuple(ids) == shard.ids:
            whole.add(file)
    for layout, records in layouts.items():
        count = capacity(layout, shard_bytes)
        full = {file for file in whole if len(rows[file]) == count}
        pool = [record for record in records if record.shard not in full]
        for start in range(0, len(pool), count):
            part = pool[start : start + count]
            if part[0].shard in whole and [record.id for record in part] == rows[part[0].shard]:
                continue  # it is there already
            yield layout, part


def _write_one(
    root: Path,
    reader: AdapterReader,
    layout: RowLayout,
    records: list[AdapterRecord],
    progress: Progress,
) -> tuple[list[AdapterRecord], str]:
    """Write a shard, name it, delete what it replaces; the records that were moved, and the shard's file."""

    def sources() -> Iterator[LazyModules]:
        for record in records:
            modules = opened(reader, record)
            if row_layout(modules) != layout:
                raise BankError(f"{record.id} was changed meanwhile; run this again")
            if modules.shard is not None:
                yield modules
                continue
            with modules.file as file:
                if file.sha256() != record.sha256:
                    raise BankError(f"{record.id} is not the file that bank.json was written with")
                yield modules

    with staging(root) as folder:
        fresh = folder / "shard"
        entry, digests = write_shard(fresh, [record.id for record in records], layout, sources(), progress)
        for record, digest in zip(records, digests, strict=True):
            if record.row_sha256 not in ("", digest):
                raise BankError(f"{record.id} is not what was stacked")
        file = f"{FOLDER}/{entry['sha256'][:16]}.safetensors"
        new = {
            record.id: {"shard": file, "row": row, "row_sha256": digest}
            for row, (record, digest) in enumerate(zip(records, digests, strict=True))
        }
        done = commit(root, records, new, {file: entry}, {record.id: {file: fresh} for record in records})
    discard(root, (record.shard or f"{record.path}/{WEIGHTS}" for record in done))
    return done, file
