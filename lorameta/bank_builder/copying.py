"""Files copied into a bank: whole, on disk, or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Container
from pathlib import Path

from lorameta.adapter import metadata, peft_format
from lorameta.errors import LorametaError
from lorameta.files.atomic import flush
from lorameta.files.links import file_of, make_folder, reason

#: What is taken from a PEFT directory: the card names the licence, lorameta.json the prompts.
FILES = (peft_format.CONFIG, peft_format.WEIGHTS, peft_format.CARD, metadata.FILE)


def copy_file(source: Path, target: Path, *, link: bool = False, reuse: bool = False) -> bool:
    """Copy a file, or give it a second name; returns whether bytes were copied.

    Parameters
    ----------
    source, target : Path
        `source` is no link (see :func:`lorameta.files.links.file_of`); the directory of `target` must be there.
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
        flush(fresh)
        stat = source.lstat()
        # The time tells a later run that it is the same file; the mode is what the umask makes it.
        os.utime(fresh, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        fresh.replace(target)
    except OSError as error:
        raise LorametaError(f"cannot copy {source} to {target}: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
    return True


def copy_adapter(source: Path, target: Path, *, link: bool = False, reuse: bool = False) -> bool:
    """Copy the files of a PEFT directory, and remove what else is in `target`; returns whether bytes were copied.

    Links are followed inside the Hub's own cache only (:func:`lorameta.files.links.file_of`); BankError elsewhere.
    """
    make_folder(target)
    files = {name: file_of(source, name) for name in FILES if os.path.lexists(source / name)}
    keep_only(target, files)
    copied = [copy_file(file, target / name, link=link, reuse=reuse) for name, file in files.items()]
    return any(copied)


def keep_only(directory: Path, names: Container[str]) -> None:
    """Remove whatever else is in a directory, such as the halves of files that a killed run left."""
    for path in directory.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _same(source: Path, target: Path) -> bool:
    one, other = source.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
