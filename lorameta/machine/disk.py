"""The disk that a base is kept on: its free space, and how fast it reads, measured."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lorameta.files.links import user_path

#: Bytes per second below which a disk is slow: a base of 14 GB takes more than a minute to read.
SLOW = 200_000_000
SAMPLE, _CHUNK = 256 << 20, 8 << 20
#: Seconds of writing after which the sample is large enough.
_PATIENCE = 2.0


@dataclass(frozen=True)
class Disk:
    """A place on a disk.

    Attributes
    ----------
    path : str
        The directory that was looked at.
    free, total : int
        Bytes.
    read : float or None
        Bytes per second read at once and not from the page cache; None if it was not measured.
    sample : int
        Bytes that were read for it.
    unmeasured : str
        Why `read` is None, or what limits its worth; may be empty.
    """

    path: str
    free: int
    total: int
    read: float | None = None
    sample: int = 0
    unmeasured: str = ""

    @property
    def slow(self) -> bool:
        """Whether reading was measured and found slow."""
        return self.read is not None and self.read < SLOW


def look(path: Path, *, measure: bool = True) -> Disk:
    """Look at the disk of `path`; the nearest directory above it that is there.

    To measure, a temporary file of 256 MB at most, and of a hundredth of the free space at most, is written, dropped
    from the page cache and read; the file is removed whatever happens.
    """
    path = user_path(path).absolute()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    usage = shutil.disk_usage(path)
    place = Disk(str(path), usage.free, usage.total)
    if not measure:
        return replace(place, unmeasured="not measured")
    size = min(SAMPLE, usage.free // 100)
    if size < _CHUNK:
        return replace(place, unmeasured="not measured: too little is free for a temporary file")
    if not hasattr(os, "posix_fadvise"):
        reason = "not measured: this system cannot be told to forget a file, so that it would come from memory"
        return replace(place, unmeasured=reason)
    try:
        sample, seconds = read_speed(path, size)
    except OSError as error:
        return replace(place, unmeasured=f"not measured: {error.strerror or error}")
    return replace(place, read=sample / seconds, sample=sample)


def read_speed(path: Path, size: int) -> tuple[int, float]:
    """Return the bytes and seconds of a sequential read."""
    block = os.urandom(_CHUNK)  # of zeros a file system may make a hole, or compress them away
    descriptor, name = tempfile.mkstemp(prefix=".lorameta-doctor-", dir=path)
    try:
        begun, written = time.perf_counter(), 0
        while written < size and (written < 4 * _CHUNK or time.perf_counter() - begun < _PATIENCE):
            written += os.write(descriptor, block)
        os.fsync(descriptor)  # only pages that are on the disk can be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(descriptor, 0, os.SEEK_SET)
        buffer, got, begun = bytearray(_CHUNK), 0, time.perf_counter()
        while count := os.readv(descriptor, [buffer]):
            got += count
        seconds = time.perf_counter() - begun
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(name).unlink()
    return got, max(seconds, 1e-9)
