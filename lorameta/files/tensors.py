"""Safetensors files to numpy arrays and back, without torch; what is wrong with a damaged one, in words.

numpy has no bfloat16, so the two conversions (shift; round to nearest even) are done here on the bits. The writer is
our own because the bytes must depend on the tensors alone: safetensors orders several metadata keys at random.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.errors import UsageError
from lorameta.files.atomic import sha256
from lorameta.files.links import reason

#: Larger files and files with more tensors are no LoRA adapters; they are refused before anything is allocated.
#: Shards of a bank may be larger: they are never read as a whole.
MAX_BYTES = 1 << 33
MAX_TENSORS = 100_000
#: The longest header that safetensors accepts, in bytes.
MAX_HEADER = 100_000_000

#: What the dtypes that an adapter may have are in numpy, bfloat16 by its bits.
KINDS = {code: np.dtype(kind) for code, kind in {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}.items()}

#: What a shard of a bank may hold besides: whole numbers of 8 bits, see :mod:`lorameta.bank.sharding.quantized`.
STORED = {**KINDS, "I8": np.dtype("i1")}

_CODES = {"float32": "F32", "bfloat16": "BF16"}


def to_bytes(tensors: Mapping[str, np.ndarray], *, dtype: str = "float32") -> bytes:
    """Encode float arrays as a safetensors file.

    Parameters
    ----------
    tensors : mapping of name to array
        Any float dtype and shape; written in the order of the names.
    dtype : {"float32", "bfloat16"}
        What the numbers are stored as.

    Returns
    -------
    bytes
        The same for the same tensors, whatever their order in the mapping.
    """
    if dtype not in _CODES:
        raise UsageError(f"unknown dtype {dtype!r}; there are {', '.join(_CODES)}")
    code = _CODES[dtype]
    header, _ = layout({name: (code, np.shape(array)) for name, array in tensors.items()})
    return b"".join([header, *(narrow(tensors[name], code).tobytes() for name in sorted(tensors))])


def layout(
    entries: Mapping[str, tuple[str, tuple[int, ...]]],
    metadata: Mapping[str, str] | None = None,
    *,
    alignment: int = 8,
) -> tuple[bytes, dict[str, int]]:
    """Return what a safetensors file begins with, and where its tensors go.

    Parameters
    ----------
    entries : mapping of name to (dtype, shape)
        The dtype as in :data:`STORED`.
    metadata : mapping of str to str, optional
        ``{"format": "pt"}`` by default, as PEFT writes it.
    alignment : int
        The first tensor starts at a multiple of this many bytes.

    Returns
    -------
    header : bytes
    starts : dict of str to int
        Offset of each tensor from the beginning of the file; the tensors follow each other in the order of their
        names, without gaps. The last entry, "", is the size of the whole file.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
    starts: dict[str, int] = {}
    offset = 0
    for name in sorted(entries):
        code, shape = entries[name]
        stop = offset + math.prod(shape) * STORED[code].itemsize
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, stop]}
        starts[name], offset = offset, stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % alignment)
    begin = 8 + len(text)
    return struct.pack("<Q", len(text)) + text, {name: begin + start for name, start in {**starts, "": offset}.items()}


def from_bytes(data: bytes, problems: list[str]) -> dict[str, np.ndarray]:
    """Decode a safetensors file; what is wrong is appended to `problems`.

    Returns
    -------
    dict of name to float32 array
        F64, F32, F16 and BF16 tensors, sorted by name; empty if the file is damaged.
    """
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(data)
    except SafetensorError as error:
        problems.append(damage(data) or f"is damaged ({error}); get the file again")
        return {}
    if len(entries) > MAX_TENSORS:
        problems.append(f"has {len(entries)} tensors, more than the {MAX_TENSORS} that an adapter can have")
        return {}
    tensors: dict[str, np.ndarray] = {}
    for name, entry in sorted(entries, key=lambda pair: pair[0]):
        if (code := entry["dtype"]) not in KINDS:
            problems.append(f"{name} has dtype {code}; save it as float32 or bfloat16")
            continue
        array = widen(np.frombuffer(entry["data"], dtype=KINDS[code]), code)
        tensors[name] = array.reshape(entry["shape"])
        if problem := not_finite(array):
            problems.append(f"{name} {problem}")
    return tensors


def read(path: Path, problems: list[str]) -> tuple[dict[str, np.ndarray], str, int]:
    """Read a safetensors file once: its float32 tensors, its SHA-256 ("" if it cannot be read) and size in bytes."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            problems.append(f"has {size} bytes, more than the {MAX_BYTES} that an adapter can have")
            return {}, "", size
        data = path.read_bytes()
    except OSError as error:
        problems.append(f"cannot be read: {reason(error)}")
        return {}, "", 0
    return from_bytes(data, problems), sha256(data), len(data)


def widen(array: np.ndarray, code: str) -> np.ndarray:
    """Return the numbers of an array of ``KINDS[code]`` as float32; the array itself if it is that already."""
    if code == "BF16":
        bits = array.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    with np.errstate(over="ignore"):  # a float64 out of float32's range becomes infinite and is reported
        return array.astype(np.float32, copy=False)


def transposed(array: np.ndarray) -> np.ndarray:
    """Return a C-ordered copy of the transpose of an (r, d) array; for r far below d faster than numpy's own."""
    turned = np.empty(array.shape[::-1], dtype=array.dtype)
    for column, row in enumerate(array):
        turned[:, column] = row
    return turned


def not_finite(array: np.ndarray) -> str | None:
    """Return what to say of float numbers that are not all finite; None if they are."""
    flat = array.reshape(-1, order="A")
    with np.errstate(all="ignore"):
        if np.isfinite(flat.dot(flat)):  # several times as fast, and enough except for huge numbers
            return None
    bad = int(flat.size - np.count_nonzero(np.isfinite(flat)))
    return f"has {bad} values that are NaN or infinite; its training failed, leave it out" if bad else None


def damage(data: bytes, size: int | None = None) -> str | None:
    """Return what a file that should hold data holds instead, and what to do; None if there is nothing to recognise.

    `data` may be the beginning of a file of `size` bytes, at least its header.
    """
    size = len(data) if size is None else size
    if not data:
        return "is empty (0 bytes); get the file again"
    if data.startswith(b"version https://git-lfs"):
        told = next((line[5:].decode("ascii", "replace") for line in data.splitlines() if line[:5] == b"size "), "?")
        return f"is a git-LFS pointer, not the file ({len(data)} bytes instead of {told}); run: git lfs pull"
    if data[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is an HTML page, not the file (an error or login page was saved in its place); get the file again"
    if data.startswith(b"PK\x03\x04") or (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return "is a pickle under another name, which can run code when it is loaded; save it as safetensors"
    return _truncation(data, size)


def _truncation(data: bytes, size: int) -> str | None:
    """Compare the size that a safetensors header promises with what there is."""
    if size < 8:
        return f"is truncated ({size} bytes, less than a header); get the file again"
    (length,) = struct.unpack("<Q", data[:8])
    if length > MAX_HEADER:
        return "is not a safetensors file (no valid header); get the file again"
    if 8 + length > size:
        return f"is truncated inside its header ({size} of more than {8 + length} bytes); get the file again"
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    if expected > size:
        return f"is truncated ({size} of {expected} bytes); get the file again"
    return None


def narrow(array: np.ndarray, code: str) -> np.ndarray:
    """Return the numbers as an array of ``KINDS[code]``, BF16 as its bits: rounded to nearest, ties to even.

    What is too large for the dtype becomes infinite; the caller looks.
    """
    if code != "BF16":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array, dtype=KINDS[code])
    bits = np.ascontiguousarray(array, dtype="<f4").view("<u4")
    return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype("<u2")
