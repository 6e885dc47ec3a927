"""The base model that an adapter changes: where it is on this machine, its configuration, its weights by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.base_model.config import refuse_pickles
from lorameta.base_model.locate import EMBEDDED, PACKAGED, local_base
from lorameta.errors import BankError, UsageError, violations
from lorameta.files import json_text, tensors
from lorameta.files.links import reason, user_path
from lorameta.files.tensor_file import Entry, TensorFile

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

#: Families whose layers are transformers' Conv1D: their weights lie transposed, which square ones do not show.
TRANSPOSED = ("gpt2", "imagegpt", "openai-gpt", "decision_transformer")

#: How the embedding of the tokens is called, in one family of models or another.
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")


def find_base(adapter: Adapter, base: str | os.PathLike[str] | None, *, weights: bool) -> Path:
    """Return the directory of the base model.

    Parameters
    ----------
    adapter : Adapter
        Whose ``base_model`` is meant if `base` is None.
    base : path, Hub id or None
        A Hub id is looked up in the local cache of huggingface_hub.
    weights : bool
        Whether more is needed than ``config.json``. That one file is downloaded if it must be; weights never are.

    Raises
    ------
    UsageError
        The adapter names no base, or the base is not on this machine.
    """
    name = os.fspath(base) if base is not None else adapter.base_model
    if not name:
        raise UsageError(f"{_called(adapter)} does not say what base it was made for; name it with --base")
    if name in (EMBEDDED, *PACKAGED):
        with contextlib.suppress(BankError):
            name = local_base(name)
    path = user_path(name)
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or "\\" in name:
        raise UsageError(
            f"there is no directory {name}; give the base that {_called(adapter)} was made for with --base"
        )
    found = _cached(name, adapter.base_revision if base is None else None, weights)
    if found is None:
        raise UsageError(
            f"the base {name} is not in the Hub's cache on this machine; get it with `hf download {name}`, "
            "or name its directory with --base"
        )
    return found


def read_config(directory: Path) -> dict[str, Any]:
    """``config.json`` of a base.

    Raises
    ------
    BankError
        There is none, or it is no JSON object.
    """
    path = directory / CONFIG
    try:
        config = json_text.read(path)
    except FileNotFoundError:
        hint = "; it holds an adapter, not a base" if (directory / "adapter_config.json").is_file() else ""
        raise BankError(f"{directory} is no base model: it has no {CONFIG}{hint}") from None
    except OSError as error:
        raise BankError(f"{path} cannot be read: {reason(error)}") from error
    except json_text.JsonError as error:
        raise BankError(f"{path} {error}; get the file again") from None
    if not isinstance(config, dict):
        raise BankError(f"{path} is no JSON object; get the file again")
    return config


class Weights:
    """The weights of a model directory, opened but not read; a context manager.

    Attributes
    ----------
    files : dict of str to TensorFile
        By file name, sorted.
    home : dict of str to str
        Tensor name -> file name, in the order in which the tensors lie in the files.

    Raises
    ------
    BankError
        There are no safetensors files, some are missing or damaged, or they do not hold what their index says.
    """

    def __init__(self, directory: Path) -> None:
        self.files: dict[str, TensorFile] = {}
        self._copies: dict[str, str] = {}
        index = {} if (directory / WEIGHTS).is_file() else _read_index(directory)
        problems: list[str] = []
        for name in sorted(set(index.values())) or [WEIGHTS]:
            try:
                self.files[name] = TensorFile(directory / name)
            except BankError as error:
                problems.append(str(error))
        self.home = {
            tensor: name
            for name, file in self.files.items()
            for tensor, entry in sorted(file.entries.items(), key=lambda item: item[1].start)
        }
        if not problems:
            problems = [
                f"{tensor} should be in {name} and is not" for tensor, name in index.items() if tensor not in self.home
            ]
        if problems:
            self.close()
            raise BankError(violations(problems, f"the base in {directory} is not whole:", "Get it again."))

    def entry(self, tensor: str) -> Entry:
        """Return where a tensor lies, and its dtype and shape."""
        return self.files[self.home[tensor]].entries[self._copies.get(tensor, tensor)]

    def untie(self, tensor: str, shape: tuple[int, int]) -> bool:
        """Let `tensor` be a copy of the embedding, to which it is tied; False if none of that shape is there."""
        known = [name for name in self.home if name.endswith(EMBEDDINGS) and self.entry(name).shape == shape]
        if len(known) != 1:
            return False
        self._copies[tensor], self.home[tensor] = known[0], self.home[known[0]]
        return True

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_stored(modules: Mapping[str, LoraPair], config: Mapping[str, Any], weights: Weights) -> dict[str, LoraPair]:
    """Return the updates under the names and in the layout of the files of a base.

    The layers of GPT-2 and its like are stored transposed, and often without the name of the stack in front.
    """
    if str(config.get("model_type")) not in TRANSPOSED:
        return dict(modules)
    found = {}
    for module, pair in modules.items():
        bare = module.removeprefix("transformer.")
        name = bare if f"{module}.weight" not in weights.home and f"{bare}.weight" in weights.home else module
        found[name] = pair if module == "lm_head" else LoraPair(pair.B.T, pair.A.T, pair.scaling)
    return found


def check_fit(
    adapter: Adapter, config: Mapping[str, Any], weights: Weights, directory: Path, *, untie: bool = False
) -> None:
    """Refuse an adapter that was not made for this base; every layer that does not fit is named.

    Parameters
    ----------
    adapter : Adapter
    config : mapping
        Of the base.
    weights : Weights
        With `untie`, it gets a tensor for a head that is tied to the embedding and changed by the adapter.
    directory : Path
    untie : bool
        Whether such a head is allowed to become a weight of its own.

    Raises
    ------
    BankError
        Layers that the base does not have, of other shapes, without numbers to add to, or that it ties to others.
    """
    problems: list[str] = []
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "") if isinstance(quantized, dict) else ""
        problems.append(f"the base is quantized ({method or 'see its configuration'}); give the one in full precision")
    for module, pair in as_stored(adapter.modules, config, weights).items():
        tensor = f"{module}.weight"
        if tied(module, config) and not (untie and weights.untie(tensor, pair.shape)):
            problems.append(f"{module} shares its weight with the embedding, which would change with it")
        elif tensor not in weights.home:
            problems.append(f"{module} is not in the base")
        elif weights.entry(tensor).shape != pair.shape:
            problems.append(
                f"{module} changes a weight of {pair.shape}; that of the base is {weights.entry(tensor).shape}"
            )
        elif weights.entry(tensor).dtype not in tensors.KINDS:
            problems.append(f"{module} has dtype {weights.entry(tensor).dtype} in the base, which takes no update")
    if problems:
        heading = f"{_called(adapter)} does not fit the base in {directory}:"
        raise BankError(violations(problems, heading, "Name the base that it was made for with --base."))


def tied(module: str, config: Mapping[str, Any]) -> bool:
    """Check whether a layer of the base is the embedding over again."""
    by_default = str(config.get("model_type")) in TRANSPOSED  # the configuration of GPT-2 does not say it
    return module == "lm_head" and bool(config.get("tie_word_embeddings", by_default))


def _called(adapter: Adapter) -> str:
    return f"the adapter {adapter.name}" if adapter.name else "the adapter"


def _read_index(directory: Path) -> dict[str, str]:
    path = directory / INDEX
    try:
        content = json_text.read(path)
        index = content["weight_map"]
        if not isinstance(index, dict) or not index:
            raise TypeError
    except FileNotFoundError:
        refuse_pickles(directory)
        raise BankError(f"{directory} has no {WEIGHTS}; name the directory of a whole base with --base") from None
    except OSError as error:
        raise BankError(f"{path} cannot be read: {reason(error)}") from error
    except (ValueError, TypeError, KeyError):
        raise BankError(f"{path} is no index of weights; get the file again") from None
    names = {name for name in index.values() if not isinstance(name, str) or Path(name).name != name or "\\" in name}
    if names:
        listed = ", ".join(sorted(map(repr, names))[:3])
        raise BankError(f"{path} names files outside of its directory ({listed}); get the base again")
    return index


def _cached(name: str, revision: str | None, weights: bool) -> Path | None:
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
    except ImportError:
        return None
    try:
        if weights:
            return Path(snapshot_download(name, revision=revision, local_files_only=True)).resolve()
        return Path(hf_hub_download(name, CONFIG, revision=revision)).parent.resolve()
    except (OSError, ValueError):  # its errors for "not there", "no network" and "no such name" are among these
        return None
