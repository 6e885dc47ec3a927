"""The inverse of :mod:`lorameta.bank.sharding.stack`: PEFT directories out of shards, one shard after the other."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.adapter.peft_format import WEIGHTS
from lorameta.bank.edit import staging
from lorameta.bank.manifest import read_manifest
from lorameta.bank.reader import AdapterReader
from lorameta.bank.records import AdapterRecord
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
from lorameta.bank.sharding.quantized import row_hash
from lorameta.bank.sharding.shard import write_peft
from lorameta.errors import BankError
from lorameta.files.links import user_path


def unstack(
    directory: str | PathLike[str], *, ids: Iterable[str] | None = None, progress: Progress | None = None
) -> Moved:
    """Give stacked adapters their ``adapter_model.safetensors`` back; shards that nothing is left in are deleted.

    The file is the one that was stacked, bit by bit, if that was written as PEFT does (tensors in the order of their
    names). If not, it holds the same numbers under PEFT's names, and the record gets its hash.

    Parameters and errors are those of :func:`lorameta.bank.sharding.stack.stack`.
    """
    root = user_path(directory).resolve()
    manifest = read_manifest(root)
    discard(root, leftovers(root, manifest))
    by_shard: dict[str, list[AdapterRecord]] = defaultdict(list)
    for record in sorted(chosen(manifest, ids), key=lambda record: (record.shard, record.row or 0)):
        if record.shard:
            by_shard[record.shard].append(record)
    require_room(root, max((sum(record.bytes for record in records) for records in by_shard.values()), default=0))
    with contextlib.closing(AdapterReader(root, manifest)) as reader:

        def move(file: str, records: list[AdapterRecord]) -> Moved:
            done, changed = _empty_one(root, reader, records, progress or (lambda count: None))
            return Moved(len(done), (file,), sum(record.bytes for record in done), tuple(changed))

        return move_all(root, reader, list(by_shard.items()), move)


def _empty_one(
    root: Path, reader: AdapterReader, records: list[AdapterRecord], progress: Progress
) -> tuple[list[AdapterRecord], list[str]]:
    """Give the adapters of one shard files of their own; the records that were moved, and whose file is another."""
    new: dict[str, dict[str, Any]] = {}
    moves: dict[str, dict[str, Path]] = {}
    with staging(root) as folder:
        for number, record in enumerate(records):
            modules = opened(reader, record)
            if row_hash(modules) != record.row_sha256:
                raise BankError(f"{record.id} is not what was stacked")
            fresh = folder / str(number)
            digest = write_peft(fresh, modules, progress)
            size = fresh.stat().st_size
            new[record.id] = {"shard": "", "row": None, "row_sha256": "", "sha256": digest, "bytes": size}
            moves[record.id] = {f"{record.path}/{WEIGHTS}": fresh}
        done = commit(root, records, new, {}, moves)
    reader.close()
    discard(root, {record.shard for record in done})
    return done, [record.id for record in done if record.sha256 != new[record.id]["sha256"]]
