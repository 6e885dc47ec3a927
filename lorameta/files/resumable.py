"""`ResumableFolder`: the finished parts of a long run, each kept at once and whole, so that a killed run goes on."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorameta.errors import LorametaError
from lorameta.files import json_text
from lorameta.files.atomic import write_file
from lorameta.files.links import reason

#: What file systems without locks answer.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class ResumableFolder:
    """A folder of JSON objects, each under a key: whatever its content depends on.

    An object of another key is not taken up, and neither is one that cannot be read: both are as if they were not
    there. Several threads may use it for different objects.

    Parameters
    ----------
    folder : Path
        Made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stored(self, name: str, key: object) -> dict[str, Any] | None:
        """Return what was kept under this key, without the key; None if there is no such object."""
        content = json_text.read_object(self.folder / name)
        if content is None or content.pop("key", None) != json.loads(json.dumps(key)):
            return None
        return content

    def store(self, name: str, key: object, content: dict[str, Any]) -> dict[str, Any]:
        """Keep an object; return it as it will be read.

        Raises
        ------
        LorametaError
            It cannot be written; an older one is intact.
        """
        text = json.dumps({**content, "key": key}, indent=1)
        write_file(self.folder / name, f"{text}\n".encode())
        return {name: value for name, value in json.loads(text).items() if name != "key"}

    @contextmanager
    def alone(self, busy: str) -> Iterator[None]:
        """Make the folder and hold its lock, where the file system has locks.

        Raises
        ------
        LorametaError
            Another process has it, with `busy` as its message, or the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self.folder / "lock", fallback_to_soft=False)
                lock.acquire(timeout=0)
                stack.callback(lock.release)
            except Timeout:
                raise LorametaError(busy) from None
            except (NotImplementedError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                    raise LorametaError(f"cannot write to {self.folder}: {reason(error)}") from error
            yield
