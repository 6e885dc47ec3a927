"""Where adapters go beside PEFT: a GGUF adapter for llama.cpp, the same for Ollama, or a whole merged model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lorameta.adapter import Adapter
from lorameta.errors import UsageError
from lorameta.export.gguf import export_gguf
from lorameta.export.merged import export_merged
from lorameta.export.ollama import export_ollama
from lorameta.export.result import Exported

__all__ = ["FORMATS", "Exported", "export", "export_gguf", "export_merged", "export_ollama"]

#: Format -> what writes it; each takes an adapter, a place and, by keyword, `base` and `dtype`.
FORMATS: dict[str, Callable[..., Exported]] = {"gguf": export_gguf, "merged": export_merged, "ollama": export_ollama}


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
    return FORMATS[format](adapter, output, **options)
