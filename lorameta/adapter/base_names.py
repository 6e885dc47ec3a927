"""Whether two names mean the same base model: repositories are copied, quantized and kept in local folders."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What is put behind the name of a base that was quantized or converted; adapters of it fit the base itself.
_VARIANT = re.compile(
    r"[-_.](unsloth|bnb|[48]-?bits?|int[48]|fp(8|16)|f16|bf16|gptq|awq|hqq|gguf|mlx|nf4|quantized|hf|dequantized)$"
)


def same_base(said: str, names: Iterable[str]) -> bool:
    """Check whether `said`, of an adapter's configuration, is one of the names of a base.

    Names are equal without regard to case. Of one base are also a quantized copy, whoever made it
    (``unsloth/mistral-7b-instruct-v0.2-bnb-4bit`` of ``mistralai/Mistral-7B-Instruct-v0.2``), and a local folder that
    is called like the repository. The shapes of the layers are compared besides.

    Examples
    --------
    >>> same_base("unsloth/mistral-7b-instruct-v0.2-bnb-4bit", ["mistralai/Mistral-7B-Instruct-v0.2"])
    True
    >>> same_base("/data/models/Mistral-7B-Instruct-v0.2/", ["mistralai/Mistral-7B-Instruct-v0.2"])
    True
    >>> same_base("mistralai/Mistral-7B-v0.1", ["mistralai/Mistral-7B-Instruct-v0.2"])
    False
    """
    said = _plain(said)
    known = [_plain(name) for name in names if name]
    return said in known or (bool(stem := _stem(said)) and stem in map(_stem, known) and _copied(said, known))


def is_local(name: str) -> bool:
    """Check whether a name is a path of some machine, not an id of the Hub."""
    return (
        name.startswith(("/", "./", "../", "~")) or "\\" in name or name[1:2] == ":" or name.strip("/").count("/") > 1
    )


def _plain(name: str) -> str:
    return name.strip().rstrip("/\\").lower()


def _stem(name: str) -> str:
    """Return the last part of a name, without what says how it was quantized."""
    last = re.split(r"[/\\]", name)[-1]
    while (shorter := _VARIANT.sub("", last)) != last:
        last = shorter
    return last if len(last) > 4 else ""


def _copied(said: str, known: list[str]) -> bool:
    """Check whether one of two names is a path, or says that it is a variant: equal last parts alone say too little."""
    variants = {re.split(r"[/\\]", name)[-1] != _stem(name) for name in (said, *known)}
    return True in variants or is_local(said) or any(map(is_local, known))
