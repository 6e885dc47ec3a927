"""`TensorFile`: a safetensors file of any size whose tensors are read one at a time, or row by row.

Opening reads the header alone. Numbers come by `pread` as copies (`read`, `bits`), or as views of the mapped file
(`raw`), so that memory is what is asked for and never the file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.errors import BankError, UsageError
from lorameta.files import tensors
from lorameta.files.links import reason


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies.

    Attributes
    ----------
    dtype : str
        As safetensors writes it: ``BF16``, ``F16``, ``F32``, ...
    shape : tuple of int
    start, stop : int
        Offsets in the file, in bytes from its beginning.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """An open safetensors file. A context manager; several threads may read; a pickled one opens the file again.

    Parameters
    ----------
    path : path
        The file.

    Attributes
    ----------
    path : Path
    size : int
        Bytes of the whole file.
    metadata : dict of str to str
        What the header says beside the tensors.
    entries : dict of str to Entry
        By tensor name, sorted.

    Raises
    ------
    BankError
        The file cannot be read, or is none: truncated, a git-LFS pointer, HTML, a pickle, ... The cause is the
        `OSError` where there was one, e.g. `FileNotFoundError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._mapping: mmap.mmap | None = None
        self._descriptor = -1
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            self.size = os.fstat(self._descriptor).st_size
            header = self._header()
        except OSError as error:
            self.close()
            raise BankError(f"{self.path} {_reason(error)}") from error
        except BaseException:
            self.close()
            raise
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        begin = self._begin
        self.entries: dict[str, Entry] = {
            name: Entry(one["dtype"], tuple(one["shape"]), *(begin + offset for offset in one["data_offsets"]))
            for name, one in sorted(header.items())
        }
        if max((entry.stop for entry in self.entries.values()), default=begin) > self.size:  # it changed just now
            self.close()
            raise BankError(f"{self.path} is truncated; get the file again")

    def bits(self, name: str, row: int | None = None) -> np.ndarray:
        """Return a copy of a tensor, or of one row (``[row]`` of the first axis), as stored; BF16 as its bits in
        uint16."""
        entry, kind = self._find(name)
        shape, start = entry.shape, entry.start
        if row is not None:
            if not shape or not 0 <= row < shape[0]:
                raise BankError(f"{self.path}: {name} has no row {row}; its shape is {shape}")
            shape, start = shape[1:], start + row * ((entry.stop - entry.start) // shape[0])
        array = np.empty(shape, dtype=kind)
        if array.nbytes:
            self._fill(array.reshape(-1).view(np.uint8).data, start)
        return array

    def read(self, name: str, row: int | None = None) -> np.ndarray:
        """Return a float32 copy of a tensor, or of one row of it.

        Raises
        ------
        BankError
            There is no such tensor or row, its dtype is no float, or the file ends too early.
        """
        if (entry := self.entries.get(name)) is not None and entry.dtype not in tensors.KINDS:
            raise BankError(f"{self.path}: {name} has dtype {entry.dtype}; save it as float32 or bfloat16")
        return tensors.widen(self.bits(name, row), self.entries[name].dtype if name in self.entries else "")

    def raw(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Return a read-only view of a tensor, or of some rows, in the mapped file; BF16 as its bits in uint16.

        The numbers are read from disk when they are touched. Cutting the file while a view is in use kills the
        process (as with every mapped file): lorameta replaces files and never writes into one.
        """
        entry, kind = self._find(name)
        with self._lock:
            if self._mapping is None:
                try:
                    self._mapping = mmap.mmap(self._open(), 0, access=mmap.ACCESS_READ)
                except OSError as error:
                    raise BankError(f"{self.path} {_reason(error)}") from error
            mapping = self._mapping
        count = (entry.stop - entry.start) // kind.itemsize
        array = np.frombuffer(mapping, kind, count, entry.start) if count else np.empty(0, dtype=kind)
        array = array.reshape(entry.shape)
        return array if rows is None else array[rows]

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, in hex."""
        digest, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
        for start in range(0, self.size, len(block)):
            part = block[: min(len(block), self.size - start)]
            self._fill(part, start)
            digest.update(part)
        return digest.hexdigest()

    def forget(self, name: str, rows: slice | None = None) -> None:
        """Take what :meth:`raw` mapped out of this process's memory; touched again, it is read again.

        It stays in the system's cache of files. Does nothing where the system has no such call.
        """
        entry, _ = self._find(name)
        with self._lock:
            mapping = self._mapping
        if mapping is None or not hasattr(mmap, "MADV_DONTNEED") or not entry.shape or entry.stop == entry.start:
            return
        low, high, _ = (rows or slice(None)).indices(entry.shape[0])
        size = (entry.stop - entry.start) // entry.shape[0]
        start = (entry.start + low * size) // mmap.PAGESIZE * mmap.PAGESIZE
        stop = min(entry.start + high * size, len(mapping))
        if stop > start:
            with contextlib.suppress(OSError):
                mapping.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def close(self) -> None:
        """Give the file back; views that :meth:`raw` gave stay valid."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            mapping, self._mapping = self._mapping, None
        if descriptor >= 0:
            os.close(descriptor)
        if mapping is not None:
            with contextlib.suppress(BufferError):  # views are alive: it goes with the last of them
                mapping.close()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self.close()

    def __reduce__(self) -> tuple[Callable[..., TensorFile], tuple[Path]]:
        return TensorFile, (self.path,)

    def __repr__(self) -> str:
        return f"<TensorFile {self.path}: {len(self.entries)} tensors, {self.size} bytes>"

    def _header(self) -> dict[str, Any]:
        """Return the header's JSON, after safetensors has found the file valid: no gaps, no overlap, all of it
        covered."""
        from safetensors import SafetensorError, safe_open

        head = memoryview(bytearray(min(self.size, 512)))
        self._fill(head, 0)
        length = struct.unpack("<Q", head[:8])[0] if self.size >= 8 else 0
        if length <= tensors.MAX_HEADER:
            head = memoryview(bytearray(min(self.size, 8 + length)))
            self._fill(head, 0)
        try:
            with safe_open(self.path, framework="numpy"):
                pass
            header = json.loads(bytes(head[8:]))
        except (SafetensorError, ValueError, RecursionError) as error:
            known = tensors.damage(bytes(head), self.size)
            raise BankError(f"{self.path} {known or f'is damaged ({error}); get the file again'}") from None
        if len(header) > tensors.MAX_TENSORS:
            raise BankError(f"{self.path} has {len(header)} tensors, more than the {tensors.MAX_TENSORS} allowed")
        self._begin = 8 + length
        return header

    def _find(self, name: str) -> tuple[Entry, np.dtype]:
        entry = self.entries.get(name)
        if entry is None:
            raise BankError(f"{self.path} has no tensor {name!r}")
        kind = tensors.STORED.get(entry.dtype)
        if kind is None:
            raise BankError(f"{self.path}: {name} has dtype {entry.dtype}; save it as float32 or bfloat16")
        return entry, kind

    def _open(self) -> int:
        if self._descriptor < 0:
            raise UsageError(f"{self.path} was closed")
        return self._descriptor

    def _fill(self, buffer: memoryview, offset: int) -> None:
        """Read ``len(buffer)`` bytes from `offset` on, without moving the file's position."""
        while buffer:
            try:
                count = _read_at(self._open(), buffer, offset, self._lock)
            except OSError as error:
                raise BankError(f"{self.path} {_reason(error)}") from error
            if not count:
                raise BankError(f"{self.path} is truncated (it ends at byte {offset}); get the file again")
            buffer, offset = buffer[count:], offset + count


def _read_at(descriptor: int, buffer: memoryview, offset: int, lock: threading.Lock) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    with lock:  # Windows
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, min(len(buffer), 1 << 24))
    buffer[: len(data)] = data
    return len(data)


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing; get the file again"
    if error.errno == errno.EMFILE:
        return "cannot be opened, too many files are open; raise the limit (ulimit -n), or use `lorameta bank stack`"
    return f"cannot be read: {reason(error)}"
