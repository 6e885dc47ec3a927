"""Where things lie that can be had again: lorameta's folder in the cache of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lorameta.files.links import user_path


def cache_directory() -> Path:
    """Return the cache directory of lorameta: ``LORAMETA_CACHE``, else a folder in the system's cache."""
    if given := os.environ.get("LORAMETA_CACHE"):
        return user_path(given).absolute()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "lorameta"
