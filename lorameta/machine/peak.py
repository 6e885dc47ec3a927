"""The most memory that this process has had so far."""

from __future__ import annotations

import sys


def peak_memory() -> int | None:
    """Return the largest resident memory of this process in MB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(size / 1e6 if sys.platform == "darwin" else size * 1024 / 1e6)
