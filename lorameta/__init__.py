"""A LoRA adapter for a dataset in seconds, on a CPU, without a gradient step.

>>> from lorameta import generate_adapter  # doctest: +SKIP
>>> generate_adapter("train.jsonl").save_pretrained("my-adapter")  # doctest: +SKIP
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.data import Example, load_examples
    from lorameta.errors import BankError, DataError, LorametaError, MissingExtraError, UsageError
    from lorameta.evaluate import Scores, evaluate
    from lorameta.generate import generate_adapter

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "AdapterBank",
    "BankError",
    "DataError",
    "Example",
    "LorametaError",
    "MissingExtraError",
    "Scores",
    "UsageError",
    "__version__",
    "evaluate",
    "generate_adapter",
    "load_examples",
]

#: Public name -> the module that defines it, imported when the name is first used: `import lorameta` stays cheap.
_HOME = {
    "Adapter": "lorameta.adapter",
    "AdapterBank": "lorameta.bank",
    "BankError": "lorameta.errors",
    "DataError": "lorameta.errors",
    "Example": "lorameta.data",
    "LorametaError": "lorameta.errors",
    "MissingExtraError": "lorameta.errors",
    "Scores": "lorameta.evaluate",
    "UsageError": "lorameta.errors",
    "evaluate": "lorameta.evaluate",
    "generate_adapter": "lorameta.generate",
    "load_examples": "lorameta.data",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lorameta' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `lorameta.evaluate` the function: importing the submodule of that name would replace it by the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
