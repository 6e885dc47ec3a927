"""The A that all adapters of a bank start from, where it is computed and not drawn: made once, kept with the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from lorameta.errors import DataError, UsageError
from lorameta.files import tensors
from lorameta.files.atomic import sha256, sha256_file, write_file
from lorameta.files.links import user_path
from lorameta.training import LoraTraining
from lorameta.training.principal import LENGTH, TOKENS, principal_a, read_texts

WEIGHTS, NOTE = "initial_a.safetensors", "initial_a.json"


@dataclass(frozen=True)
class CommonA:
    """A of every module, and the hash of the file that holds it."""

    arrays: dict[str, np.ndarray]
    sha256: str


def a_key(fingerprint: str, settings: LoraTraining, calibration: Sequence[str | PathLike[str]]) -> str | None:
    """Return what a computed A depends on; None if A is drawn.

    Raises
    ------
    UsageError
        There is no text to compute it from, or text that nothing is computed from.
    DataError
        A file of text is not there.
    """
    if settings.init_a == "random":
        if calibration:
            raise UsageError("--calibration is for --init-a principal; a random A needs no text")
        return None
    if not calibration:
        raise UsageError("--init-a principal needs text: name a file of it with --calibration")
    files = [user_path(path) for path in calibration]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise DataError(f"there is no calibration text {', '.join(missing)}")
    content = [
        fingerprint, settings.rank, settings.targets, settings.base_dtype, TOKENS, LENGTH,
        *(sha256_file(file) for file in files),
    ]  # fmt: skip
    return sha256(json.dumps(content).encode())


def stored_a(folder: Path, key: str | None) -> CommonA | None:
    """Return the A that an earlier run made of the same; None if there is none, or its file has changed."""
    try:
        note = json.loads((folder / NOTE).read_bytes())
        data = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError):
        return None
    if key is None or not isinstance(note, dict) or note.get("key") != key or note.get("sha256") != sha256(data):
        return None
    return CommonA(tensors.from_bytes(data, []), note["sha256"])


def make_a(
    folder: Path, key: str, base: str, revision: str | None, settings: LoraTraining,
    calibration: Sequence[str | PathLike[str]],
) -> CommonA:  # fmt: skip
    """Compute A, and keep it."""
    from lorameta.base_model.load import load_base

    texts = [text for path in calibration for text in read_texts(path)]
    loaded = load_base(base, revision, settings.base_dtype)
    data = tensors.to_bytes(principal_a(loaded, settings.targets, settings.rank, texts))
    write_file(folder / WEIGHTS, data)
    write_file(folder / NOTE, (json.dumps({"key": key, "sha256": sha256(data)}) + "\n").encode())
    return CommonA(tensors.from_bytes(data, []), sha256(data))
