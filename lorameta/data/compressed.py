"""Files that were compressed with gzip, bzip2, xz or zstd, opened as if they were not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from types import SimpleNamespace
from typing import BinaryIO

from lorameta.data.values import RowError

#: Endings of compressed files, which stand behind that of the format; and how such files begin.
ENDINGS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd"}
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
#: Text compresses to a tenth or so; a file that grows more than this was made to fill memory.
_RATIO, _FREE = 250, 1 << 24


def compression_of(head: bytes) -> str | None:
    """Return how a file that begins with `head` was compressed; None if it was not."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def decompressed(source: BinaryIO, kind: str) -> BinaryIO:
    """Return a stream of what a compressed file holds; it is damaged or a bomb if reading raises RowError."""
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    return io.BufferedReader(_Decompressed(source, kind, _RATIO * size + _FREE))  # type: ignore[return-value]


class _Decompressed(io.RawIOBase):
    """Raw bytes out of a compressed file; seeking back begins again."""

    def __init__(self, source: BinaryIO, kind: str, limit: int) -> None:
        self.source, self.kind, self.limit = source, kind, limit
        self._at, self._end = 0, -1
        self._open()

    def _open(self) -> None:
        self.source.seek(0)
        self._at = 0
        if self.kind == "zstd":
            import pyarrow

            own = self.source  # stays open when the stream around it is closed
            kept = SimpleNamespace(read=own.read, tell=own.tell, seek=own.seek, closed=False, close=lambda: None)
            self._inner = pyarrow.CompressedInputStream(pyarrow.PythonFile(kept, "r"), "zstd")
        else:
            opener = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[self.kind]
            self._inner = opener(self.source, "rb")  # type: ignore[operator]

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can go back."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, by reading up to it."""
        target = offset if whence == io.SEEK_SET else self._at + offset
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the length of a compressed file is not known")
        if target < self._at:
            self._open()
        while self._at < target and self.read(min(target - self._at, 1 << 20)):
            pass
        return self._at

    def tell(self) -> int:
        """Return the place in the decompressed bytes."""
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; 0 at the end."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        try:
            found = self._inner.read(len(view))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            raise RowError(f"the {self.kind} file is damaged or cut short: {error}") from None
        view[: len(found)] = found
        self._at += len(found)
        if self._at > self.limit:
            raise RowError(f"the {self.kind} file grows more than {_RATIO} times when it is unpacked: no file of rows")
        return len(found)
