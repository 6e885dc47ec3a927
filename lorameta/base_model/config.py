"""transformers as this package uses it: imported late, without the code of a base, with errors that say what to do."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from lorameta.base_model.locate import local_base
from lorameta.errors import BankError, LorametaError, UsageError, first_line, requires
from lorameta.files.links import user_path

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def libraries(purpose: str = "Looking at a base model") -> Any:
    """Import transformers, without its progress bars.

    Raises
    ------
    MissingExtraError
        transformers, torch or PEFT is not installed; `purpose` begins the message.
    """
    with requires(None, "evaluate", purpose):
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers
    transformers.utils.logging.disable_progress_bar()
    return transformers


def load(kind: str, base: str | os.PathLike[str], revision: str | None = None, **options: Any) -> Any:
    """Call ``from_pretrained`` of a class of transformers; every load of a part of a base goes through here.

    Python code that a base brings along is never run, and pickled weights are never read.

    Parameters
    ----------
    kind : {"AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"}
    base : path or Hub id
    revision : str, optional
        Of a base on the Hub.
    **options
        For ``from_pretrained``.

    Raises
    ------
    BankError
        It cannot be loaded, and why.
    """
    transformers = libraries("Running a model")
    name = local_base(base)
    if kind == "AutoModelForCausalLM":
        refuse_pickles(user_path(name))
        options["use_safetensors"] = True
    try:
        return getattr(transformers, kind).from_pretrained(name, revision=revision, trust_remote_code=False, **options)
    except LorametaError:
        raise
    except Exception as error:  # a damaged file makes transformers, tokenizers and safetensors raise almost anything
        raise BankError(f"the base {name} cannot be loaded: {first_line(error)}") from error


def read_config(base: str | os.PathLike[str], revision: str | None = None) -> Any:
    """Read the configuration of a base: from its directory, the Hub's cache on this machine, or the Hub.

    Raises
    ------
    BankError
        It is in none of these places, transformers does not know the architecture, or the base would run code of its
        own.
    """
    libraries()
    name = local_base(base)
    path = user_path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BankError(f"{path} is no base model: it has no config.json")
        content, config = _parsed(str(path), None, local_files_only=True)
    else:
        if not _HUB_ID.fullmatch(name):
            raise BankError(
                f"there is no base {name}: no such directory, and it is no id of the Hub (owner/name) either"
            )
        content, config = _from_hub(name, revision)
    if content.get("auto_map"):
        raise BankError(
            f"the base {name} brings Python code of its own (auto_map in its config.json), which is never run here; "
            "take a base that transformers knows by itself"
        )
    return config


def find_config(base: str | os.PathLike[str], revision: str | None = None) -> Any:
    """Read the configuration of the text decoder of a base; see :func:`read_config`.

    Raises
    ------
    UsageError
        It is no decoder that could be given a LoRA adapter here.
    """
    config = read_config(base, revision)
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(f"{os.fspath(base)} has an encoder and a decoder; adapters here are for decoders alone")
    return config.get_text_config(decoder=True)


def commit_of(base: str | os.PathLike[str], revision: str | None = None) -> str | None:
    """Return the commit of a base on the Hub as far as it is known, else the revision that was asked for."""
    return getattr(read_config(base, revision), "_commit_hash", None) or revision


def _parsed(name: str, revision: str | None, **options: Any) -> tuple[dict[str, Any], Any]:
    """Return the configuration as a dictionary and as transformers' object; an OSError is left to the caller."""
    transformers = libraries()
    try:
        content, _ = transformers.PreTrainedConfig.get_config_dict(name, revision=revision, **options)
        if content.get("auto_map"):  # refused by the caller, by name
            return content, None
        config = transformers.AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False, **options)
        return content, config
    except OSError as error:
        if options.get("local_files_only") and Path(name).is_dir():
            raise BankError(f"the configuration of {name} cannot be read: {first_line(error)}") from error
        raise
    except Exception as error:  # whatever a damaged or unknown configuration makes transformers raise
        raise BankError(f"the configuration of {name} cannot be used: {first_line(error)}") from error


def _from_hub(name: str, revision: str | None) -> tuple[dict[str, Any], Any]:
    try:
        return _parsed(name, revision, local_files_only=True)
    except OSError:
        pass  # not in the cache
    try:
        return _parsed(name, revision)
    except OSError as error:
        raise BankError(
            f"there is no base {name} here: the config.json of {name} is not in the Hub's cache on this machine, and "
            f"the Hub did not give it ({first_line(error)}); get it where there is a network (`hf download {name} "
            "config.json`), or give a directory that holds it"
        ) from error


def refuse_pickles(directory: Path) -> None:
    """Raise BankError if a base has its weights in pickles alone."""
    pickles = sorted(found.name for pattern in PICKLES for found in directory.glob(pattern))
    if pickles and not any(directory.glob("*.safetensors")):
        raise BankError(
            f"the base {directory} has its weights in {pickles[0]} only, a pickle, which can run code when it is "
            "loaded and is never read; load it with transformers where you trust it and save it again"
        )
