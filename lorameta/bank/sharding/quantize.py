"""Put adapters that were trained with one frozen A into a shard of 8 bits."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from os import PathLike

from lorameta.adapter.lora import LoraPair
from lorameta.adapter.peft_format import WEIGHTS
from lorameta.bank.edit import staging
from lorameta.bank.hub.fetch import is_away
from lorameta.bank.manifest import read_manifest
from lorameta.bank.reader import AdapterReader
from lorameta.bank.sharding.move import Moved, Progress, commit, discard, leftovers, not_written, require_room
from lorameta.bank.sharding.quantized import write_quantized
from lorameta.bank.sharding.shard import FOLDER
from lorameta.errors import BankError, violations
from lorameta.files.links import user_path


def quantize(directory: str | PathLike[str], *, progress: Progress | None = None) -> Moved:
    """Store the adapters of a bank in 8 bits: one A for all, each B rounded, column by column.

    The numbers change a little, and undoing it (``lorameta bank stack --undo``) gives the rounded ones. Adapters
    that are in 8 bits already stay as they are.

    Parameters
    ----------
    directory : path
        Of a bank whose adapters share one A, bit by bit.
    progress : callable, optional
        Told the number of bytes of the factors, each time that some were written.

    Returns
    -------
    Moved

    Raises
    ------
    BankError
        There is no bank, an adapter is damaged, or the adapters do not have one A; nothing is changed then.
    LorametaError
        There is not enough room, or the directory cannot be written.
    """
    root = user_path(directory).resolve()
    manifest = read_manifest(root)
    small = {file for file, entry in manifest.shards.items() if "bits" in entry}
    records = [
        record
        for record in sorted(manifest.adapters, key=lambda record: record.id)
        if record.shard not in small and not is_away(root, record)
    ]
    if not records:
        return Moved()
    discard(root, leftovers(root, manifest))
    require_room(root, sum(record.bytes for record in records) // 4)
    with contextlib.closing(AdapterReader(root, manifest)) as reader:

        def read(id: str) -> dict[str, LoraPair]:
            found, problems = reader.read(id)
            if found is None or problems:
                raise BankError(violations(problems, f"{id} cannot be read:"))
            return dict(found.modules)

        with staging(root) as folder:
            fresh = folder / "shard"
            sources = [(record.id, lambda id=record.id: read(id)) for record in records]
            try:
                entry, digests, size = write_quantized(fresh, sources, progress or (lambda count: None))
            except OSError as error:
                raise not_written(root, error) from error
            file = f"{FOLDER}/{entry['sha256'][:16]}.safetensors"
            new = {
                record.id: {"shard": file, "row": row, "row_sha256": digest, "sha256": digest, "bytes": size}
                for row, (record, digest) in enumerate(zip(records, digests, strict=True))
            }
            done = commit(root, records, new, {file: entry}, {record.id: {file: fresh} for record in records})
    discard(root, (record.shard or f"{record.path}/{WEIGHTS}" for record in done))
    return replace(Moved(), adapters=len(done), shards=(file,), bytes=sum(record.bytes for record in done))
