"""Safetensors files to numpy arrays and back, without torch; what is wrong with a damaged one, in words.

numpy has no bfloat16, so the two conversions (shift; round to nearest even) are done here on the bits. The writer is
our own because the bytes must depend on the tensors alone: safetensors orders several metadata keys at random.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.atomic import sha256
from lorameta.errors import UsageError

#: Larger files and files with more tensors are no LoRA adapters; they are refused before anything is allocated.
MAX_BYTES = 1 << 33
MAX_TENSORS = 100_000

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
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blocks: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        block = _encode(np.asarray(tensors[name]), dtype)
        header[name] = {
            "dtype": _CODES[dtype],
            "shape": list(np.shape(tensors[name])),
            "data_offsets": [offset, offset + len(block)],
        }
        offset += len(block)
        blocks.append(block)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    return b"".join([struct.pack("<Q", len(text)), text, *blocks])


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
        array = _decode(entry["data"], entry["dtype"])
        if array is None:
            problems.append(f"{name} has dtype {entry['dtype']}; save it as float32 or bfloat16")
            continue
        tensors[name] = array.reshape(entry["shape"])
        if not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            problems.append(f"{name} has {bad} values that are NaN or infinite; its training failed, leave it out")
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
        problems.append(f"cannot be read: {error.strerror or error}")
        return {}, "", 0
    return from_bytes(data, problems), sha256(data), len(data)


def damage(data: bytes) -> str | None:
    """What a file that should hold data holds instead, and what to do; None if there is nothing to recognise."""
    if not data:
        return "is empty (0 bytes); get the file again"
    if data.startswith(b"version https://git-lfs"):
        size = next((line[5:].decode("ascii", "replace") for line in data.splitlines() if line[:5] == b"size "), "?")
        return f"is a git-LFS pointer, not the file ({len(data)} bytes instead of {size}); run: git lfs pull"
    if data[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is an HTML page, not the file (an error or login page was saved in its place); get the file again"
    if data.startswith(b"PK\x03\x04") or (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return "is a pickle under another name, which can run code when it is loaded; save it as safetensors"
    return _truncation(data)


def _truncation(data: bytes) -> str | None:
    """Compare the size that a safetensors header promises with what there is."""
    if len(data) < 8:
        return f"is truncated ({len(data)} bytes, less than a header); get the file again"
    (length,) = struct.unpack("<Q", data[:8])
    if length > 100_000_000:
        return "is not a safetensors file (no valid header); get the file again"
    if 8 + length > len(data):
        return f"is truncated inside its header ({len(data)} of more than {8 + length} bytes); get the file again"
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    if expected > len(data):
        return f"is truncated ({len(data)} of {expected} bytes); get the file again"
    return None


def _encode(array: np.ndarray, dtype: str) -> bytes:
    single = np.ascontiguousarray(array, dtype="<f4")
    if dtype == "float32":
        return single.tobytes()
    bits = single.view("<u4")
    return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype("<u2").tobytes()


def _decode(data: bytes | bytearray, code: str) -> np.ndarray | None:
    if code == "BF16":
        return (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    if code not in kinds:
        return None
    with np.errstate(over="ignore"):  # a float64 out of float32's range becomes infinite and is reported
        return np.frombuffer(data, dtype=kinds[code]).astype(np.float32)
