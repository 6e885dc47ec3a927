"""The lock of a bank: one writer at a time. Readers never wait, since what they read is never changed in place."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lorameta.errors import LorametaError, LorametaWarning, UsageError
from lorameta.files.links import link_in, own_folder, reason, remove_folder
from lorameta.files.resumable import NO_LOCKS

#: Directory inside a bank for what is no part of it: the lock, what waits to be deleted, work that can be resumed.
WORK = ".lorameta"
#: Seconds until a writer that has to wait says so, and until it gives up.
SAY_AFTER, GIVE_UP_AFTER = 1.0, 3600.0


def work_folder(root: Path, *parts: str) -> Path:
    """Return the hidden directory for work in progress of a bank, or one below it, made if need be.

    It may have come with a bank from elsewhere, so no part of it may be a link (LorametaError).
    """
    return own_folder(root, WORK, *parts)


def has_work(root: Path, *parts: str) -> bool:
    """Check whether such a directory is there, and is no link."""
    return link_in(root, WORK, *parts) is None and root.joinpath(WORK, *parts).is_dir()


def clear_work(root: Path, *parts: str) -> None:
    """Delete such a directory; a link, or what is behind one, is left alone."""
    remove_folder(root, WORK, *parts)


def refuse_foreign(root: Path, own: str, beside: Iterable[str] = ()) -> None:
    """Raise UsageError if a bank cannot be made in `root`: a file, or a directory with the files of others.

    Parameters
    ----------
    own : str
        The folder of a stopped run of the same kind, with which the directory may go on.
    beside : iterable of str
        What else may be there.
    """
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; give a new directory")
    foreign = sorted({path.name for path in root.iterdir()} - {WORK, *beside}) if root.is_dir() else []
    if foreign and not has_work(root, own):
        raise UsageError(f"{root} is not empty: it holds {', '.join(foreign[:5])}; give a new directory")


@contextmanager
def locked(root: Path, *, timeout: float = GIVE_UP_AFTER, name: str = "lock") -> Iterator[bool]:
    """Hold the bank's advisory lock; wait for it if another writer has it, and say so.

    Parameters
    ----------
    root : Path
        The bank's directory.
    timeout : float
        Seconds to wait at most.
    name : str
        Of the lock's file. The lock of a bank is "lock"; who works beside it for long takes one of his own.

    Yields
    ------
    bool
        Whether the lock is held. Some network file systems have none: who writes must then compare ``bank.json`` with
        what it was before replacing it, which :func:`lorameta.bank.edit.update` does in any case.

    Raises
    ------
    LorametaError
        Another process kept it for `timeout` seconds, or the directory cannot be written.
    """
    from filelock import FileLock, Timeout

    # fallback_to_soft: a lock file that a killed process leaves behind would stop every later writer.
    *folders, file = name.split("/")
    place = work_folder(root, *folders) / file
    if link_in(root, WORK, *name.split("/")) is not None:
        raise LorametaError(f"{place} is a link; links are not followed in a bank's work folder: delete it")
    lock = FileLock(place, fallback_to_soft=False)
    held = True
    try:
        try:
            lock.acquire(timeout=min(SAY_AFTER, timeout))
        except Timeout:
            warnings.warn(f"another process writes to the bank {root}; waiting for it", LorametaWarning, stacklevel=3)
            lock.acquire(timeout=max(timeout - SAY_AFTER, 0.0))
    except Timeout:
        message = f"another process has been writing to {root} for {timeout:.0f} s; try again when it is done"
        raise LorametaError(message) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise LorametaError(f"cannot write to {root}: {reason(error)}; nothing was changed") from error
        held = False
    try:
        yield held
    finally:
        if held:
            lock.release()
