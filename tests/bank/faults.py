"""Kills a process at its n-th change of a directory: before the change, or in the middle of a file's bytes."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lorameta.errors import LorametaError

KILLED, FAILED = 77, 78
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}


def survives(n: int, action: Callable[[], object], root: Path, *, half: bool = False, full: bool = False) -> bool:
    """Run `action` in a child process that is killed at its n-th change below `root`; whether it came to its end.

    With `half`, a change is a file's content, of which half is written before the end; else it is any call that
    creates, opens for writing, renames or removes something, and it is not made. With `full` the process is not killed:
    from its n-th change on the disk is full, nothing can be created or opened for writing any more, and the action must
    fail with a LorametaError that says so.
    """
    child = os.fork()
    if child == 0:
        try:
            (halve_writes if half else fill if full else count_changes)(n, root.resolve())
            action()
            os._exit(0)
        except BaseException as error:
            if full and isinstance(error, LorametaError) and "make room" in str(error):
                os._exit(KILLED)
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(FAILED)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), f"the action itself failed at change {n}: {code}"
    return code == 0


def fill(n: int, root: Path) -> None:
    def stop() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    count_changes(n, root, stop, {"os.mkdir", "os.link"})


def count_changes(
    n: int, root: Path, stop: Callable[[], object] = lambda: os._exit(KILLED), events: set[str] = CHANGES
) -> None:
    seen = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal seen
        if event == "open":
            path, mode, flags = args
            writing = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if not writing:
                return
        elif event not in events:
            return
        else:
            path = args[0]
        if isinstance(path, (str, bytes, os.PathLike)) and Path(os.fsdecode(path)).is_relative_to(root):
            seen += 1
            if seen > n:
                stop()

    sys.addaudithook(hook)


def halve_writes(n: int, root: Path) -> None:
    from lorameta.bank_builder import copying
    from lorameta.files import atomic

    seen = 0
    write, copyfile = atomic.write_bytes, shutil.copyfile

    def stop(path: Path) -> bool:
        nonlocal seen
        seen += Path(path).is_relative_to(root)
        return seen > n

    def half_write(path: Path, data: bytes) -> None:
        if stop(path):
            Path(path).write_bytes(data[: len(data) // 2])
            os._exit(KILLED)
        write(path, data)

    def half_copy(source: Path, target: Path) -> None:
        if stop(target):
            data = Path(source).read_bytes()
            Path(target).write_bytes(data[: len(data) // 2])
            os._exit(KILLED)
        copyfile(source, target)

    atomic.write_bytes = half_write
    copying.shutil.copyfile = half_copy
