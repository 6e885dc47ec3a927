"""Where adapters go beside PEFT: a GGUF adapter for llama.cpp, the same for Ollama, or a whole merged model.

To add one, write a function ``export_NAME`` in a file ``NAME.py``, which takes an adapter, a place and, by keyword,
`base` and `dtype`, and name it in `FORMATS`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lorameta.errors import UsageError

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.export.gguf import export_gguf
    from lorameta.export.merged import export_merged
    from lorameta.export.ollama import export_ollama
    from lorameta.export.result import Exported

#: Format -> what is written, for the command line's help.
FORMATS = {
    "gguf": "a file for llama.cpp, beside the GGUF of the base",
    "merged": "a whole model directory",
    "ollama": "a directory for `ollama create`",
}

__all__ = ["FORMATS", "Exported", "export", "export_gguf", "export_merged", "export_ollama"]


def export(
    adapter: Adapter | str | os.PathLike[str], output: str | os.PathLike[str], *, format: str, **options: Any
) -> Exported:
    """Write an adapter in the format of another runtime.

    Parameters
    ----------
    adapter : Adapter or path of a PEFT directory
    output : path
        A file for ``gguf``, a directory for ``merged`` and ``ollama``.
    format : {"gguf", "merged", "ollama"}
    **options
        ``base``, ``dtype``, and what the format takes besides: see :func:`export_gguf`, :func:`export_merged`
        and :func:`export_ollama`.

    Returns
    -------
    Exported
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; there are {', '.join(FORMATS)}")
    written: Exported = __getattr__(f"export_{format}")(adapter, output, **options)
    return written


def __getattr__(name: str) -> Any:
    """Import what writes a format when it is first used: the names alone need no numpy."""
    if name == "Exported":
        return import_module(f"{__name__}.result").Exported
    if name.removeprefix("export_") not in FORMATS or name in FORMATS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{name.removeprefix('export_')}"), name)
