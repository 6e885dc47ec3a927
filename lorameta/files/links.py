"""Directories that may come from a stranger: walked, read and emptied without following a symbolic link.

A link in an archive or a clone may lead anywhere. What is opened here is opened below a directory, part by part, each
with ``O_NOFOLLOW`` where the system has it; what is deleted is deleted only where no part of the path is a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from lorameta.errors import BankError, LorametaError, UsageError

_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BELOW = os.open in os.supports_dir_fd and bool(_NOFOLLOW)


def is_link(path: Path) -> bool:
    """Check whether `path` is a symbolic link, or a junction of Windows."""
    return path.is_symlink() or bool(getattr(os.path, "isjunction", lambda _: False)(path))


def link_in(root: Path, *parts: str) -> Path | None:
    """Return the first part of a path below `root` that is a link; None if there is none. `root` itself may be one."""
    path = root
    for part in parts:
        path = path / part
        if is_link(path):
            return path
    return None


def own_folder(root: Path, *parts: str) -> Path:
    """Return a directory below `root`, made if need be; no part of it may be a link.

    Raises
    ------
    LorametaError
        A part is a link or a file, or the directory cannot be made.
    """
    path = root
    try:
        root.mkdir(parents=True, exist_ok=True)
        for part in parts:
            path = path / part
            if is_link(path):
                raise LorametaError(_refusal(path))
            path.mkdir(exist_ok=True)
    except OSError as error:
        raise LorametaError(f"cannot write to {path}: {reason(error)}; nothing was changed") from error
    return path


def make_folder(path: Path) -> Path:
    """Make a directory and those above it, where there is none; LorametaError where the system refuses."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LorametaError(f"cannot write to {path}: {reason(error)}") from error
    return path


def remove_folder(root: Path, *parts: str) -> None:
    """Delete a directory below `root`, as far as the system lets it; nothing happens where a part is a link."""
    if link_in(root, *parts) is None:
        shutil.rmtree(root.joinpath(*parts), ignore_errors=True)


@contextlib.contextmanager
def opened(root: Path, relative: str) -> Iterator[int]:
    """Open a regular file below `root` for reading, without following a link.

    Yields
    ------
    int
        A file descriptor, closed afterwards.

    Raises
    ------
    BankError
        A part of the path is a link, or it is no regular file.
    OSError
        It cannot be opened.
    """
    parts = relative.split("/")
    if (link := link_in(root, *parts)) is not None:
        raise BankError(_refusal(link))
    flags = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = -1
    try:
        if _BELOW:
            descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            for part in parts:
                folder = os.O_DIRECTORY if part is not parts[-1] else 0
                above, descriptor = descriptor, os.open(part, flags | folder, dir_fd=descriptor)
                os.close(above)
        else:
            descriptor = os.open(root.joinpath(*parts), flags)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BankError(f"{root / relative} is no regular file; delete it")
        yield descriptor
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BankError(_refusal(root / relative)) from error
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def read_below(root: Path, relative: str, *, limit: int | None = None) -> bytes:
    """Return the content of a regular file below `root`; at most `limit` bytes. Errors as :func:`opened`."""
    with opened(root, relative) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read() if limit is None else file.read(limit)


def file_of(directory: Path, name: str) -> Path:
    """Return the file that ``directory/name`` is, where a link may lead inside the Hub's own cache only.

    The cache of ``huggingface_hub`` keeps a file as ``blobs/<hash>`` and links to it from ``snapshots/<commit>``.

    Raises
    ------
    BankError
        It is a link that leads anywhere else, or no regular file.
    """
    path = directory / name
    if not is_link(path):
        if path.exists() and not path.is_file():
            raise BankError(f"{path} is no regular file; put the file itself there")
        return path
    try:
        target, home = path.resolve(strict=True), directory.resolve()
    except (OSError, RuntimeError) as error:
        raise BankError(f"{path} is a link to nothing; put the file itself there") from error
    above = home.parents
    blobs = above[1] / "blobs" if len(above) > 1 and above[0].name == "snapshots" else None
    if not (target.parent == blobs and _BLOB.fullmatch(target.name) and target.is_file()):
        raise BankError(f"{path} is a link to {target}; links are not followed, put the file itself there")
    return target


def is_directory(path: Path) -> bool:
    """Check whether there is a directory; also no where the name can be none: too long, with NUL, a link to itself."""
    return _answered(path.is_dir)


def is_file(path: Path) -> bool:
    """Check whether there is a file; also no where the name can be none, or where it may not be looked for."""
    return _answered(path.is_file)


def same(one: Path, other: Path) -> bool:
    """Check whether two paths lead to the same place, links resolved; no where one leads nowhere."""
    return _answered(lambda: one.resolve() == other.resolve())


def _answered(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (OSError, ValueError, RuntimeError):
        return False


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that the user gave, with ``~`` and ``~name`` replaced by a home directory.

    Raises
    ------
    UsageError
        There is no such user, or it can be the path of nothing.
    """
    try:
        found = Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: there is no such user; write ./~... for a file of that name") from None
    if "\0" in str(found):
        raise UsageError(f"{path}: a path cannot hold the character NUL")
    return found


def resolved(path: Path) -> Path:
    """Return a path with all links resolved; BankError where they lead in a circle, or a name is too long."""
    try:
        return path.resolve()
    except OSError as error:
        raise BankError(f"{str(path)[:300]} is no usable path: {reason(error)}") from error
    except RuntimeError as error:  # of Python 3.12 and older
        raise BankError(f"{path} is no usable path: a link leads back to itself, delete it") from error


def reason(error: OSError) -> str:
    """Say why the system refused, and what to do about it where that is known."""
    why = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{why}; {remedy}" if remedy else why


_REMEDIES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "the quota of this user is used up, make room",
    errno.EFBIG: "a file may not become that large here (ulimit -f)",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "the disk is mounted read-only, choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EMFILE: "too many files are open, raise the limit (ulimit -n)",
    errno.ELOOP: "a link leads back to itself, delete it",
}


def _refusal(path: Path) -> str:
    return f"{path} is a link; links are not followed there, as they may lead out of the bank: delete it"
