"""Files in which a bank keeps what was fitted to it: safetensors with a JSON header, ``operators/*.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.errors import BankError
from lorameta.files import json_text
from lorameta.files.atomic import write_file

FORMAT = 1
_KEY = "lorameta"
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def save(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Write arrays and what is to be known of them."""
    from safetensors.numpy import save as encode

    text = json.dumps({"format": FORMAT, **header}, sort_keys=True, separators=(",", ":"))
    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    return write_file(path, encode(whole, {_KEY: text}))


@contextmanager
def reading(path: Path, lacking: str, remedy: str) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Read what :func:`save` wrote: the header, and the arrays in float64.

    Raises
    ------
    BankError
        The file is missing (`lacking`, then `remedy`), or it is damaged: also where the block, which checks what was
        read, raises ValueError, KeyError or the like.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BankError(f"{lacking}; {remedy}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json_text.decode((file.metadata() or {})[_KEY])
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}, this version of lorameta reads {FORMAT}")
        yield header, arrays
    except (SafetensorError, *_DAMAGE) as error:
        raise BankError(f"{path} is damaged ({error}); {remedy}") from error
