"""Files copied into a bank: whole, on disk, or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path

from lorameta.adapter import peft_format
from lorameta.errors import LorametaError

#: What is taken from a PEFT directory: the card names the licence.
FILES = (peft_format.CONFIG, peft_format.WEIGHTS, peft_format.CARD)


def copy_file(source: Path, target: Path, *, link: bool = False, reuse: bool = False) -> bool:
    """Copy a file, or give it a second name; returns whether bytes were copied.

    Parameters
    ----------
    source, target : Path
        Symbolic links are followed; the directory of `target` must be there.
    link : bool
        Make a hard link where the file system can. Then whoever writes *into* the source changes the bank as well;
        whoever replaces it does not.
    reuse : bool
        Leave a target of the same size and time as it is: it was copied before.

    Raises
    ------
    LorametaError
        It cannot be written.
    """
    source = source.resolve()
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        if reuse and target.is_file() and _same(source, target):
            return False
        if link:
            with contextlib.suppress(OSError):  # another file system: copied then
                os.link(source, fresh)
                fresh.replace(target)
                return False
        shutil.copyfile(source, fresh)
        with fresh.open("r+b") as file:
            os.fsync(file.fileno())
        shutil.copystat(source, fresh)
        fresh.chmod(0o644)
        fresh.replace(target)
    except OSError as error:
        raise LorametaError(f"cannot copy {source} to {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
    return True


def copy_adapter(source: Path, target: Path, *, link: bool = False, reuse: bool = False) -> bool:
    """Copy the files of a PEFT directory; returns whether bytes were copied."""
    target.mkdir(parents=True, exist_ok=True)
    copied = [
        copy_file(source / name, target / name, link=link, reuse=reuse) for name in FILES if (source / name).is_file()
    ]
    return any(copied)


def _same(source: Path, target: Path) -> bool:
    one, other = source.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
