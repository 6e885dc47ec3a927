"""The former name of :mod:`lorameta.training`, kept importable."""

from __future__ import annotations

from typing import Any

from lorameta import training
from lorameta.training import *  # noqa: F403
from lorameta.training import __all__ as __all__


def __getattr__(name: str) -> Any:
    return getattr(training, name)
