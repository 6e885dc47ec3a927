"""The base model of a run: loaded once, known by a fingerprint, looked at without its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.base_model.config import commit_of, libraries, load, read_config
from lorameta.base_model.locate import local_base
from lorameta.base_model.tokenizer_patterns import check_parts, check_patterns
from lorameta.errors import BankError, UsageError
from lorameta.files.links import is_file, user_path

#: Bases with fewer parameters are trained on in float32, larger ones in bfloat16.
LARGE = 1_000_000_000
#: What counts of a large file for the fingerprint: its size, and this many bytes at either end.
_ENDS = 1 << 20


@dataclass
class Base:
    """A base model in memory.

    Attributes
    ----------
    model : transformers.PreTrainedModel
        Frozen, in evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerFast
        With a padding token.
    name : str
        What it was loaded from: a Hub id or a directory.
    revision : str or None
        Of a Hub id.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str | None = None


def load_tokenizer(base: str | PathLike[str], revision: str | None = None) -> Any:
    """Return the base's tokenizer, with a padding token.

    Raises
    ------
    BankError
        It cannot be loaded.
    UsageError
        It has no character offsets or no end token.
    """
    name = str(base)
    if is_file(file := user_path(local_base(base)) / "tokenizer.json"):
        check_patterns(file)
    tokenizer = load("AutoTokenizer", base, revision)
    if not tokenizer.is_fast:
        raise UsageError(f"the tokenizer of {name} has no character offsets (it is not a fast tokenizer)")
    check_parts(tokenizer.backend_tokenizer, name)
    if tokenizer.eos_token_id is None:
        raise UsageError(f"the tokenizer of {name} has no end-of-sequence token, so that no answer could end")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(base: str | PathLike[str], revision: str | None = None, dtype: str | None = None) -> Base:
    """Load a base on the CPU, in `dtype` or else in float32 below a billion parameters and bfloat16 above.

    Never in float16, for which CPUs have no fast path.

    Raises
    ------
    BankError
        It cannot be loaded.
    UsageError
        Its tokenizer has no character offsets or no end token.
    MissingExtraError
        torch, transformers or peft is not installed.
    """
    libraries("Running a model")
    import torch

    read_config(base, revision)  # what is wrong with it is said better here than by the loading of tokenizer or weights
    tokenizer = load_tokenizer(base, revision)
    model = load("AutoModelForCausalLM", base, revision, dtype="auto" if dtype is None else getattr(torch, dtype))
    if dtype is None:
        cast(model, "float32" if model.num_parameters() < LARGE else "bfloat16")
    if (head := model.get_output_embeddings()) is not None:
        head.register_forward_pre_hook(_contiguous)
    return Base(model.eval().requires_grad_(False), tokenizer, str(base), revision)


def _contiguous(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make the input of the head contiguous: torch 2.13 multiplies a slice with a copy of the weight for each row."""
    return (inputs[0].contiguous(), *inputs[1:])


def pass_dtype() -> str | None:
    """Precision in which adapters are tried on labelled rows: bfloat16 on processors with AMX, None elsewhere.

    There a pass is much faster; losses are rounded, so that close candidates may change places. None is what
    :func:`load_base` takes by itself; it is what scores and answers are computed in.
    """
    import torch

    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    newest = torch.backends.cpu.get_cpu_capability().startswith("AVX512")  # PyTorch may be held to older kernels
    return "bfloat16" if newest and capabilities.get("amx_bf16") else None


def precision(model: Any) -> str:
    """Return the dtype of a model's weights, as ``float32``."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def cast(model: Any, dtype: str) -> Any:
    """Put the weights of a model into another dtype; `model` itself, changed.

    Buffers stay as they are: ``model.to(torch.bfloat16)`` would round the frequencies of rotary positions as well.
    """
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))
    return model


def base_fingerprint(base: str | PathLike[str], revision: str | None = None) -> str:
    """Sixteen characters that another base, or another version of it, does not share.

    Of a directory: a hash of the names, sizes and contents of its files, of those beyond 64 MiB only of the first
    and last mebibyte, so that it is quick for a base of any size. Of a Hub id: its commit.

    Raises
    ------
    BankError
        It is not there.
    """
    path = user_path(local_base(base))
    if path.is_dir():
        digest = hashlib.sha256()
        files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix in (".json", ".safetensors"))
        for file in files:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}\n".encode())
            with file.open("rb") as content:
                if size <= 64 * _ENDS:
                    digest.update(content.read())
                else:
                    digest.update(content.read(_ENDS))
                    content.seek(-_ENDS, 2)
                    digest.update(content.read(_ENDS))
        if not any(file.name == "config.json" for file in files):
            raise BankError(f"{path} is no base model: there is no config.json in it")
        return digest.hexdigest()[:16]
    return (commit_of(str(base), revision) or "main")[:16]


def tokenizer_file(base: str | PathLike[str], revision: str | None, directory: Path) -> Path:
    """Return the base's ``tokenizer.json``: in the base where that is a directory, else saved to `directory`."""
    file = user_path(local_base(base)) / "tokenizer.json"
    if file.is_file():
        return file
    load("AutoTokenizer", base, revision).save_pretrained(directory)
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise BankError(f"the base {base} has no tokenizer.json, which the summaries of the datasets need")
    return file
