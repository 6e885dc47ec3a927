"""What a bank no longer names: kept for an hour, as a reader may have it open, and then deleted by the next writer.

The journal ``.lorameta/retired.json`` says since when. It is written before anything moves, so that a writer killed
at any moment leaves no file that is neither named by ``bank.json`` nor noted here. What no writer of lorameta put
into the directory is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from lorameta.adapter import peft_format
from lorameta.bank.lock import WORK, clear_work, has_work, work_folder
from lorameta.bank.names import unsafe_path
from lorameta.bank.records import Manifest
from lorameta.files import json_text
from lorameta.files.atomic import STALE_AFTER, write_file
from lorameta.files.links import is_link, read_below

JOURNAL = "retired.json"
#: Bytes of the journal that are read at most.
MAX_JOURNAL = 1 << 24
#: Folder for files that are about to be moved into the bank; each writer has one of its own in it.
STAGING = "staging"
_OURS = re.compile(r"(summaries-|shards/)[0-9a-f]{16}\.safetensors")
#: Temporary files of :func:`lorameta.files.atomic.write_file`: in the bank's directory, and in one that is ours alone.
_ROOT = re.compile(r"\.(bank\.json|summaries(-[0-9a-f]{16})?\.safetensors)\.[0-9a-f]{8}\.tmp")
_ANY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
#: All that is ever deleted, whatever the journal says: it may have come with a bank from elsewhere.
_DELETABLE = re.compile(r"(adapters/[^/]+(/[^/]+)?|shards/[^/]+|summaries(-[0-9a-f]{16})?\.safetensors)")


def named_by(manifest: Manifest) -> set[str]:
    """Return the files and adapters' directories that a manifest names, relative to the bank."""
    found = {manifest.summaries.get("file", ""), "tokenizer", *manifest.shards}
    if manifest.base.sha256:
        found.add(manifest.base.model)
    for record in manifest.adapters:
        found |= {record.path, f"{record.path}/{peft_format.CONFIG}"}
        if not record.shard:
            found.add(f"{record.path}/{peft_format.WEIGHTS}")
    return found - {""}


def retired(root: Path) -> set[str]:
    """Return the paths that wait to be deleted."""
    return set(_read(root))


def retire(root: Path, paths: Iterable[str]) -> None:
    """Note paths that ``bank.json`` is about to name no longer, or does not name yet."""
    journal, now = _read(root), time.time()
    _write(root, {**dict.fromkeys(sorted(paths), now), **journal})


def delete_expired(root: Path, manifest: Manifest, *, alone: bool = False) -> None:
    """Delete what has not been named for an hour, and what killed writers left; failures are left to the next writer.

    Parameters
    ----------
    root : Path
        The bank's directory.
    manifest : Manifest
        What is in it now.
    alone : bool
        The bank's lock is held, so that the temporary files of its writers are nobody's. Otherwise, and where files are
        written without the lock, they must be an hour old.
    """
    journal, now, named = _read(root), time.time(), named_by(manifest)
    in_use = {part for path in named for part in (path, *(str(p) for p in Path(path).parents))}
    left = {path: since for path, since in journal.items() if path not in in_use}
    for path in [*root.glob("summaries-*.safetensors"), *root.glob("shards/*.safetensors")]:
        relative = path.relative_to(root).as_posix()
        if _OURS.fullmatch(relative) and relative not in named:
            left.setdefault(relative, now)
    for relative, since in list(left.items()):
        if now - since > STALE_AFTER and (not _deletable(root, relative) or _delete(root / relative)):
            del left[relative]
    if left != journal:
        _write(root, left)
    for folder, names, own in ((root, _ROOT, alone), (root / WORK, _ANY, alone), (root / "operators", _ANY, False)):
        for path in [] if is_link(folder) or not folder.is_dir() else list(folder.iterdir()):
            if names.fullmatch(path.name) and (own or now - _newest(path) > STALE_AFTER):
                path.unlink(missing_ok=True)
    if has_work(root, "build") and now - _newest(root / WORK / "build") > STALE_AFTER:
        clear_work(root, "build")  # of a run that was killed after its last step: there is a bank
    if has_work(root, STAGING):
        for folder in (root / WORK / STAGING).iterdir():
            if now - _newest(folder) > STALE_AFTER:
                clear_work(root, STAGING, folder.name)


def _newest(folder: Path) -> float:
    """When something in a directory was changed last; links are not followed."""
    times = [os.lstat(folder).st_mtime]
    for place, folders, files in os.walk(folder):
        times += [os.lstat(Path(place, name)).st_mtime for name in (*folders, *files)]
    return max(times)


def _deletable(root: Path, relative: str) -> bool:
    if unsafe_path(relative) or not _DELETABLE.fullmatch(relative):
        return False
    return (root / relative).parent.resolve().is_relative_to(root.resolve())


def _delete(path: Path) -> bool:
    """Delete a file, or a whole directory, and the directory above if it is empty then; False if it is still there."""
    if path.is_symlink() or path.is_file():
        with contextlib.suppress(OSError):
            path.unlink()
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _read(root: Path) -> dict[str, float]:
    try:
        content = json_text.decode(read_below(root, f"{WORK}/{JOURNAL}", limit=MAX_JOURNAL))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    safe = {path: since for path, since in content.items() if not unsafe_path(path)}
    return {path: float(since) for path, since in safe.items() if isinstance(since, (int, float))}


def _write(root: Path, journal: dict[str, float]) -> None:
    write_file(work_folder(root) / JOURNAL, (json.dumps(journal, indent=1, sort_keys=True) + "\n").encode())
