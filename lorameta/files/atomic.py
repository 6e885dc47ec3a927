"""Writing so that a crash, a full disk or a second process never leaves a half-written result; and hashing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from lorameta.errors import LorametaError, UsageError
from lorameta.files.exchange import exchange
from lorameta.files.links import is_directory, reason, resolved, user_path

#: What a killed run left beside its target is removed by the next write to the same target, after this many seconds.
STALE_AFTER = 3600.0


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file of any size, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_file(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a whole file, or leave the old one as it was: temporary sibling, flush to disk, rename.

    Raises
    ------
    LorametaError
        The file cannot be written; the old one is intact.
    """
    with fresh_file(path) as fresh:
        write_bytes(fresh, data)
    return user_path(path)


def write_directory(directory: str | os.PathLike[str], files: Mapping[str, bytes], *, also: Iterable[str] = ()) -> Path:
    """Write a directory of `files` (name to content) as a whole, replacing an older one that holds the same names.

    Names in `also` may be in the older one without being written again.

    Returns
    -------
    Path
        The directory, absolute, symbolic links resolved.

    Raises
    ------
    UsageError
        There is a file of that name, or a directory that holds anything else than `files`: it is not ours to replace.
    LorametaError
        The directory cannot be written; the old one is intact.
    """
    with fresh_directory(directory, {*files, *also}) as fresh:
        for name, data in files.items():
            write_bytes(fresh / name, data)
    return user_path(directory).resolve()


@contextlib.contextmanager
def fresh_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write; at the end flushed to disk and moved there. For files of any size.

    Raises
    ------
    LorametaError
        The file cannot be written; the old one is intact.
    """
    target = user_path(path)
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        yield fresh
        flush(fresh)
        fresh.replace(target)
    except OSError as error:
        raise LorametaError(f"cannot write {target}: {reason(error)}. What was there is unchanged") from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


@contextlib.contextmanager
def fresh_directory(directory: str | os.PathLike[str], names: Iterable[str]) -> Iterator[Path]:
    """Yield a temporary sibling of `directory` to put the files `names` into; at the end flushed and moved there as a
    whole.

    Raises
    ------
    UsageError, LorametaError
        As :func:`write_directory`.
    """
    target = resolved(user_path(directory))
    restore(target)
    _refuse_foreign(target, frozenset(names))
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        fresh.mkdir()
        yield fresh
        for path in sorted(fresh.iterdir()):
            flush(path)
        swap(fresh, target)
    except OSError as error:
        raise LorametaError(f"cannot write {target}: {reason(error)}. What was there is unchanged") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _refuse_foreign(target: Path, files: Collection[str]) -> None:
    try:
        with os.scandir(target) as entries:  # one look: another writer may be moving the directory at this moment
            foreign = sorted(entry.name for entry in entries if entry.name not in files or entry.is_dir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        message = f"{target} is a file; give a directory that is new, empty, or one written here before"
        raise UsageError(message) from None
    except OSError as error:
        raise LorametaError(f"cannot write {target}: {reason(error)}. Nothing was changed") from error
    if foreign:
        listed = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise UsageError(
            f"{target} is not empty: it holds {listed}. It would be replaced as a whole, so nothing is written; "
            "give a new directory, or move these files away"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that is not there yet."""
    with path.open("xb") as file:
        file.write(data)


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def swap(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`; what was there is at `fresh` then, or gone.

    In one step where the system can (:func:`lorameta.files.exchange.exchange`), so that a reader always finds one of
    the two. Elsewhere the old directory steps aside, as a non-empty one cannot be renamed over; a process that is
    killed just then leaves it beside its place, and the next run puts it back (:func:`restore`).
    """
    if target.is_dir() and exchange(fresh, target):
        return
    aside: list[Path] = []
    try:
        for attempt in range(10):  # more than two only if other processes replace the same directory meanwhile
            try:
                fresh.rename(target)
                break
            except OSError:
                if attempt == 9 or not target.is_dir():
                    raise
            with contextlib.suppress(FileNotFoundError):
                old = fresh.with_suffix(f".{attempt}.old")
                target.rename(old)
                aside.append(old)
    finally:
        if aside and not target.exists():
            aside.pop().rename(target)
        for path in aside:
            shutil.rmtree(path, ignore_errors=True)


def restore(target: Path) -> None:
    """Put a directory back that a killed writer had moved aside; nothing happens where there is one."""
    if not is_directory(target.parent) or os.path.lexists(target):
        return
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.\d\.old")
    with contextlib.suppress(OSError):
        found = [entry for entry in target.parent.iterdir() if name.fullmatch(entry.name) and entry.is_dir()]
        for entry in sorted(found, key=lambda entry: entry.stat().st_mtime, reverse=True)[:1]:
            entry.rename(target)


def _remove_leftovers(target: Path) -> None:
    """Remove what a killed process left beside `target`; what was moved aside stays unless `target` is whole."""
    names = f".{target.name}."
    try:
        entries = list(target.parent.iterdir())
    except OSError:  # it may be written to and not be listed
        return
    for entry in entries:
        if not entry.name.startswith(names) or entry.suffix not in (".tmp", ".old"):
            continue
        with contextlib.suppress(OSError):
            if (entry.suffix == ".tmp" or target.exists()) and time.time() - entry.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
