"""Shards of 8-bit adapters that have one A: A once, each B as whole numbers from -127 to 127 with a scale per column.

``<module>.lora_A`` is F32 of shape (r, d_in), the same for all adapters of the shard; ``<module>.lora_B`` is I8 of
shape (M, r, d_out), transposed as in other shards; ``<module>.scale`` is F32 of shape (M, r): column k of an adapter's
B is ``scale[k]`` times the row k of its whole numbers. What readers get are float32 factors, all with the very same A,
so that the average of the factors is the exact sum of the updates. The header says ``"format": 2``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.adapter.lazy import LazyModules
from lorameta.adapter.lora import LoraPair
from lorameta.adapter.peft_format import Halves
from lorameta.bank.sharding.shard import ALIGNMENT, Shard, row_digest
from lorameta.errors import BankError
from lorameta.files import tensors
from lorameta.files.atomic import flush, sha256_file

#: Largest whole number of a column; -128 is not used, so that the range is the same on both sides of zero.
LARGEST = 127


def quantize_columns(B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round the columns of B to 8 bits, each with a scale of its own.

    Parameters
    ----------
    B : numpy.ndarray of shape (d_out, r)

    Returns
    -------
    codes : numpy.ndarray of shape (r, d_out), int8
        Transposed.
    scale : numpy.ndarray of shape (r,), float32
        The largest size in the column, over 127. An error is at most half of it.
    """
    scale = (np.abs(B).max(axis=0) / LARGEST).astype(np.float32)
    codes = np.rint(B / np.where(scale > 0, scale, 1)).clip(-LARGEST, LARGEST).astype(np.int8)
    return np.ascontiguousarray(codes.T), scale


class QuantizedModules(LazyModules):
    """The modules of an adapter in a quantized shard; pairs are float32, and their A is one array for all adapters."""

    def __init__(self, shard: Shard, halves: Mapping[str, Halves], row: int) -> None:
        super().__init__(shard.file, halves, row)
        self._common = shard.common

    @property
    def shard(self) -> None:
        """None: the rows of the file are no factors that could be summed as they lie there."""
        return None

    def __getitem__(self, module: str) -> LoraPair:
        one = self.halves[module]
        codes = self.file.bits(one.B, self.row)
        scale = self.file.bits(f"{module}.scale", self.row)
        return self._pair(module, codes, scale)

    def rows(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Yield what the shard holds of this adapter alone: whole numbers and scales, in the order of the names."""
        for module, one in sorted(self.halves.items()):
            for name in (one.B, f"{module}.scale"):
                yield name, self.file.entries[name].dtype, self.file.bits(name, self.row)

    def verified(self, digest: str, notes: list[str]) -> dict[str, LoraPair]:
        """Return all pairs, once the hash of the common A's and of this row are found right; what is wrong is noted."""
        found = hashlib.sha256(common_digest(self).encode())
        parts: dict[str, np.ndarray] = {}
        for name, _, bits in self.rows():
            found.update(bits.data)
            parts[name] = bits
        if found.hexdigest() != digest:
            notes.append("is not what was quantized (SHA-256); get the bank again")
        pairs = {}
        for module, one in self.halves.items():
            if problem := tensors.not_finite(parts[f"{module}.scale"]) or tensors.not_finite(self._a(module)):
                notes.append(f"{module} {problem}")
            pairs[module] = self._pair(module, parts[one.B], parts[f"{module}.scale"])
        return pairs

    def _pair(self, module: str, codes: np.ndarray, scale: np.ndarray) -> LoraPair:
        B = np.multiply(codes, scale[:, None], dtype=np.float32)
        return LoraPair(self._a(module), tensors.transposed(B), self.halves[module].scaling)

    def _a(self, module: str) -> np.ndarray:
        found = self._common.get(module)
        if found is None:
            found = self.file.bits(self.halves[module].A)
            found.flags.writeable = False  # it is everybody's
            self._common[module] = found
        return found


def row_hash(modules: LazyModules) -> str:
    """Return the SHA-256 of an adapter's bytes as ``bank.json`` gives it, whatever its shard is."""
    return row_digest(modules, common_digest(modules) if isinstance(modules, QuantizedModules) else "")


def common_digest(modules: QuantizedModules) -> str:
    """Return the SHA-256 of the A's of a shard, in the order of the modules; computed once."""
    known = modules._common.get("")
    if known is None:
        digest = hashlib.sha256()
        for module in sorted(modules.halves):
            digest.update(modules._a(module).data)
        known = modules._common[""] = np.array(digest.hexdigest())
    return str(known)


def write_quantized(
    path: Path,
    adapters: Sequence[tuple[str, Callable[[], Mapping[str, LoraPair]]]],
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[dict[str, Any], list[str], int]:
    """Write a new shard, one adapter in memory at a time.

    Parameters
    ----------
    path : Path
        Not there yet.
    adapters : sequence of (id, function)
        The function reads the adapter's pairs.
    progress : callable
        Told the number of bytes of the factors, each time that some were written.

    Returns
    -------
    entry : dict
        ``sha256``, ``bytes`` and ``bits``, as in the manifest's ``shards``.
    digests : list of str
        SHA-256 of each row and the common A.
    size : int
        Bytes of a row.

    Raises
    ------
    BankError
        The adapters do not have one A, or other modules, ranks or scalings.
    """
    first = adapters[0][1]()
    common = hashlib.sha256(b"".join(first[module].A.tobytes() for module in sorted(first))).hexdigest()
    entries: dict[str, tuple[str, tuple[int, ...]]] = {}
    for module, pair in first.items():
        entries[f"{module}.lora_A"] = ("F32", pair.A.shape)
        entries[f"{module}.lora_B"] = ("I8", (len(adapters), *pair.B.T.shape))
        entries[f"{module}.scale"] = ("F32", (len(adapters), pair.rank))
    metadata = {"lorameta": json.dumps({"format": 2, "ids": [id for id, _ in adapters]}, separators=(",", ":"))}
    header, starts = tensors.layout(entries, metadata, alignment=ALIGNMENT)
    digests, size = [], 0
    with path.open("xb") as file:
        file.write(header)
        file.truncate(starts[""])
        for module, pair in first.items():
            file.seek(starts[f"{module}.lora_A"])
            file.write(np.ascontiguousarray(pair.A).data)
        for row, (id, read) in enumerate(adapters):
            modules = read()
            _require_alike(adapters[0][0], first, id, modules)
            digest, size = hashlib.sha256(common.encode()), 0
            for module, pair in sorted(modules.items()):
                codes, scale = quantize_columns(pair.B)
                for name, bits in ((f"{module}.lora_B", codes), (f"{module}.scale", scale)):
                    digest.update(bits.data)
                    file.seek(starts[name] + row * bits.nbytes)
                    file.write(bits.data)
                    size += bits.nbytes
                progress(pair.A.nbytes + pair.B.nbytes)
            digests.append(digest.hexdigest())
    flush(path)
    return {"sha256": sha256_file(path), "bytes": starts[""], "bits": 8}, digests, size


def _require_alike(first_id: str, first: Mapping[str, LoraPair], id: str, modules: Mapping[str, LoraPair]) -> None:
    if set(first) != set(modules):
        raise BankError(f"{id} changes other modules than {first_id}; adapters of 8 bits must change the same")
    for module, pair in modules.items():
        if pair.scaling != first[module].scaling or pair.shape != first[module].shape:
            raise BankError(f"{id}: {module} has another shape or scaling than that of {first_id}")
        if not np.array_equal(pair.A, first[module].A):
            raise BankError(
                f"{id}: {module} has another A than {first_id}; adapters are stored in 8 bits where A was frozen and "
                "common (lorameta bank train --freeze-a)"
            )
        if problem := tensors.not_finite(pair.B):
            raise BankError(f"{id}: {module} {problem}")
