"""What a training run keeps of its finished tasks in the bank's work folder, so that a killed run can be resumed.

An adapter's directory is written as a whole, its facts after it: where there are facts, there is an adapter. Both lie
in ``.lorameta/train`` until the bank is written; then the adapters are moved into the bank, and the facts stay.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorameta.adapter import peft_format
from lorameta.bank.lock import WORK, work_folder
from lorameta.bank.manifest import MANIFEST
from lorameta.bank.records import AdapterRecord, Manifest
from lorameta.errors import UsageError
from lorameta.files import json_text
from lorameta.files.atomic import sha256, sha256_file, write_directory, write_file
from lorameta.files.resumable import ResumableFolder

FOLDER = "train"
RUN = "run.json"


class TrainedAdapters(ResumableFolder):
    """The finished tasks of a run, in a bank's directory."""

    def __init__(self, root: Path, run: Mapping[str, Any], base: Path) -> None:
        super().__init__(root / WORK / FOLDER)
        self.root, self.run, self.base = root, run, base

    def require(self, *, force: bool = False) -> None:
        """Refuse a directory that is not ours to fill; the base may lie in it. Nothing is written.

        Raises
        ------
        UsageError
            The directory holds something else, or adapters of another base or other settings.
        """
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is a file; name a directory for the bank")
        if not self.folder.is_dir() and self.root.is_dir():
            foreign = sorted(
                path.name
                for path in self.root.iterdir()
                if path.name != WORK and not self.base.is_relative_to(path.resolve())
            )
            if foreign:
                what = "a bank that was not trained there" if MANIFEST in foreign else ", ".join(foreign[:5])
                raise UsageError(f"{self.root} holds {what}; name a new directory for the bank")
        before = json_text.read_object(self.folder / RUN)
        if before is not None and before != self.run and not force and any(self.folder.glob("facts/*.json")):
            changed = [f"{key} {old!r}, now {new!r}" for key, old, new in _differences(before, self.run)]
            raise UsageError(
                f"{self.root} holds adapters that were trained otherwise ({'; '.join(changed)}). Name another "
                "directory, or say --force to train them again; the bank there is replaced when all are done"
            )

    @contextmanager
    def working(self) -> Iterator[None]:
        """Make the work folder, and keep a second run out of it."""
        for parts in ((FOLDER, "adapters"), (FOLDER, "facts")):
            work_folder(self.root, *parts)
        with self.alone(f"another run is training a bank in {self.root}; wait for it, or stop it"):
            write_file(self.folder / RUN, (json.dumps(self.run, indent=1, sort_keys=True) + "\n").encode())
            yield

    def keep(self, id: str, key: str, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a finished task; returns its facts as they are read back."""
        if self.staged(id).is_symlink():
            self.staged(id).unlink()  # nothing of ours: what is behind it stays
        write_directory(self.staged(id), files)
        hashes = {name: sha256(data) for name, data in files.items()}
        return self.store(f"facts/{id}.json", key, {**facts, "sha256": hashes})

    def facts(self, id: str, key: str, manifest: Manifest | None) -> dict[str, Any] | None:
        """Return the facts of a task that was finished with this key and whose adapter waits, or is in the bank."""
        found = self.stored(f"facts/{id}.json", key)
        if found is None:
            return None
        there = in_bank(id, found, manifest) or _holds(self.staged(id), found) or self._stray(id, found)
        return found if there else None

    def reclaim(self, id: str, facts: Mapping[str, Any], manifest: Manifest | None) -> None:
        """Let an adapter wait again that a killed run had moved, but not entered in ``bank.json`` yet."""
        if in_bank(id, facts, manifest) or _holds(self.staged(id), facts):
            return
        if (stray := self._stray(id, facts)) is not None:
            shutil.rmtree(self.staged(id), ignore_errors=True)
            self.staged(id).parent.mkdir(parents=True, exist_ok=True)
            stray.rename(self.staged(id))

    def _stray(self, id: str, facts: Mapping[str, Any]) -> Path | None:
        return next((path for path in sorted((self.root / "adapters").glob(f"{id}*")) if _holds(path, facts)), None)

    def staged(self, id: str) -> Path:
        """Return where an adapter waits that is not in the bank."""
        return self.folder / "adapters" / id


def in_bank(id: str, facts: Mapping[str, Any], manifest: Manifest | None) -> AdapterRecord | None:
    """Return the record of a bank that has this very adapter."""
    hashes = (facts["sha256"][peft_format.WEIGHTS], facts["sha256"][peft_format.CONFIG])
    records = manifest.adapters if manifest is not None else ()
    return next((r for r in records if r.id == id and (r.sha256, r.config_sha256) == hashes), None)


def _holds(directory: Path, facts: Mapping[str, Any]) -> bool:
    """Check whether a directory has the files that the facts tell of, byte for byte."""
    with contextlib.suppress(OSError):
        return all(sha256_file(directory / name) == digest for name, digest in facts["sha256"].items())
    return False


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
                yield from _differences(old[key], new[key])
            else:
                yield key, old.get(key), new.get(key)
