"""A shard read once from its first byte to its last: the hashes of its rows, and what is measured of each."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.adapter.peft_config import LoraSettings
from lorameta.bank.records import AdapterRecord
from lorameta.bank.scan import Measures, Widener, exactly
from lorameta.bank.sharding.quantized import QuantizedModules
from lorameta.bank.sharding.shard import Shard, row_problem
from lorameta.errors import BankError
from lorameta.files import tensors

#: Bytes of a shard in memory at a time.
BLOCK = 1 << 23
#: Adapters of a block that one thread works off.
_ROWS = 8


@dataclass
class ShardScan:
    """What a shard holds.

    Attributes
    ----------
    problems : list of str
        Of the whole file.
    measures : dict of str to Measures
        By adapter, of those that are sound.
    notes : dict of str to list of str
        By adapter, what is wrong with its row.
    bytes : int
        How much was read.
    """

    problems: list[str] = field(default_factory=list)
    measures: dict[str, Measures] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    bytes: int = 0


@dataclass
class _Row:
    record: AdapterRecord
    measures: Measures
    digest: Any = field(default_factory=hashlib.sha256)


def scan_shard(
    path: Path,
    entry: Mapping[str, Any],
    members: Mapping[str, tuple[AdapterRecord, LoraSettings]],
    pool: Executor,
    progress: Callable[[int], object] = lambda count: None,
) -> ShardScan:
    """Read a shard sequentially, a few megabytes at a time; hashing and measuring are spread over the pool.

    Every number that an adapter is made of is in the hash of its row, so the file as a whole is not hashed again: that
    would take as long once more, on one core.

    Parameters
    ----------
    path : Path
        Of the shard.
    entry : mapping
        Its ``bytes`` by ``bank.json``.
    members : mapping of id to its record and configuration
        The adapters to look at; other rows, of adapters that were removed, are read and not looked at.
    pool : Executor
    progress : callable
        Told the number of bytes, each time that some were read.
    """
    found = ShardScan()
    try:
        shard = Shard(path, entry["bytes"])
    except BankError as error:
        return ShardScan(problems=[str(error)])
    if shard.quantized:
        with shard.file:
            return _scan_quantized(shard, members, progress)
    with shard.file:
        entries = sorted(shard.file.entries.items(), key=lambda item: item[1].start)
    if [name for name, _ in entries] != sorted(shard.file.entries):
        return ShardScan(problems=[f"{path} is no shard: its tensors are not in the order of their names"])
    rows: dict[int, _Row] = {}
    for name, (record, settings) in members.items():
        found.notes[name] = notes = []
        if (problem := row_problem(shard, record)) is not None:
            notes.append(problem)
            continue
        halves = shard.halves(settings, notes)
        if not notes and record.row is not None:
            layout = {m: (one.rank, one.d_out, one.d_in, one.scaling) for m, one in halves.items()}
            rows[record.row] = _Row(record, Measures(layout))
    try:
        _read_all(path, entries, rows, pool, progress)
    except (OSError, BankError) as error:
        return ShardScan(problems=[f"{path} cannot be read: {error}"])
    found.bytes = entry["bytes"]
    for row in rows.values():
        name = row.record.id
        if row.digest.hexdigest() != row.record.row_sha256:
            found.notes[name].append(
                f"row {row.record.row} of {row.record.shard} is not what bank.json was written with (SHA-256); "
                "get the bank again"
            )
        elif row.measures.finite:
            found.measures[name] = row.measures
    return found


def _scan_quantized(
    shard: Shard, members: Mapping[str, tuple[AdapterRecord, LoraSettings]], progress: Callable[[int], object]
) -> ShardScan:
    """Read the rows of a shard of 8 bits, one adapter after the other: they are small."""
    found = ShardScan(bytes=shard.file.size)
    for name, (record, settings) in members.items():
        found.notes[name] = notes = []
        if (problem := row_problem(shard, record)) is not None or record.row is None:
            notes.append(problem or "has no row")
            continue
        halves = shard.halves(settings, notes)
        if notes:
            continue
        pairs = QuantizedModules(shard, halves, record.row).verified(record.row_sha256, notes)
        measures = Measures({m: (one.rank, one.d_out, one.d_in, one.scaling) for m, one in halves.items()})
        with np.errstate(over="ignore", invalid="ignore"):
            for module, pair in pairs.items():
                measures.add(module, "A", pair.A)
                measures.add(module, "B", pair.B.T)
        if not notes and measures.finite:
            found.measures[name] = measures
        progress(record.bytes)
    return found


def _read_all(
    path: Path, entries: list[Any], rows: dict[int, _Row], pool: Executor, progress: Callable[[int], object]
) -> None:
    """Read everything. While a block is worked off, the next is read."""
    local = threading.local()

    def measure(name: str, code: str, block: np.ndarray, first: int) -> None:
        """Work off some rows (m, r, d) of a tensor, the first of them that of adapter `first`."""
        if not hasattr(local, "widen"):
            local.widen = Widener()
        module, _, half = name.rpartition(".lora_")
        with np.errstate(over="ignore", invalid="ignore"):
            for i, numbers in enumerate(block, first):
                if (row := rows.get(i)) is not None:
                    row.digest.update(numbers)
                    row.measures.add(module, half, local.widen(numbers, code))

    jobs: list[Future[None]] = []
    buffers = [memoryview(bytearray(0))] * 2
    with path.open("rb", buffering=0) as file:
        file.seek(entries[0][1].start if entries else 0)
        for name, entry in entries:
            count = entry.shape[0]
            stride = (entry.stop - entry.start) // count
            step = max(1, min(count, BLOCK // max(stride, 1)))
            for first in range(0, count, step):
                some = min(step, count - first)
                if len(buffers[0]) < some * stride:
                    buffers[0] = memoryview(bytearray(some * stride))
                data = exactly(file, buffers[0][: some * stride])
                block = np.frombuffer(data, dtype=tensors.KINDS[entry.dtype]).reshape(some, *entry.shape[1:])
                for job in jobs:  # a row's tensors are hashed in their order
                    job.result()
                parts = range(0, some, _ROWS)
                jobs = [pool.submit(measure, name, entry.dtype, block[i : i + _ROWS], first + i) for i in parts]
                buffers.reverse()
                progress(len(data))
        for job in jobs:
            job.result()
