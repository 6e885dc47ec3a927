"""What an operator is: its name, what it needs, its options, and the module whose `weigh` does the work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from lorameta.bank import AdapterBank
    from lorameta.operator.context import Context


@dataclass(frozen=True)
class Option:
    """An option of an operator: its default, what it means, and which values can work.

    Attributes
    ----------
    doc : str
        For the command line's help, without the default. An option of the same name means the same for every operator.
    default : object
        None stands for "as many as there are", or for a value that is found when the operator runs.
    least, most : float
        Smallest and largest value of a number.
    whole : bool
        Whether a number must be a whole one.
    choices : tuple of str
        The values of an option that is a word.
    flag : str or None
        On the command line; "" is the option's own name, None keeps it to Python.
    """

    doc: str
    default: Any = None
    least: float = 0
    most: float = math.inf
    whole: bool = False
    choices: tuple[str, ...] = ()
    flag: str | None = ""

    def problem(self, name: str, value: object) -> str | None:
        """Return what is wrong with `value`; None if nothing is."""
        if self.choices:
            return None if value in self.choices else f"{name} must be one of {', '.join(self.choices)}; got {value!r}"
        if self.flag is None:
            return None
        number = value.item() if hasattr(value, "item") else value  # a number of numpy
        good = isinstance(number, int if self.whole else (int, float)) and not isinstance(number, bool)
        if good and isinstance(number, (int, float)) and self.least <= number <= self.most and number < math.inf:
            return None
        wanted = f"a whole number of at least {self.least}" if self.whole else f"a finite number from {self.least} up"
        wanted += f" to {self.most}" if self.most < math.inf else ""
        return f"{name} must be {wanted}; got {value!r}"


@dataclass(frozen=True)
class Operator:
    """A way to turn what is known of a dataset into mixing weights: called with a `Context`, it gives them.

    Attributes
    ----------
    name : str
        Also of its module ``lorameta.operator.NAME``. The module's function ``weigh`` takes a :class:`Context` and
        returns the weights (N,) and JSON-able details; its function ``require(bank, distance, options)``, if it has
        one, raises what is missing before any work is done.
    doc : str
        One line for tables and help.
    temperature : float or None
        The default; None where a temperature has no meaning.
    top_k : bool
        Whether the largest weights may be kept and normalised: not where the weights are a solution as a whole.
    needs : tuple of str
        Of ``"sentence"`` (the summaries' part on embeddings, whatever the distance), ``"fitted"`` (something that was
        fitted to the bank) and ``"rows"`` (labelled rows, and the base model to run them through). Empty: the distances
        alone.
    options : mapping of str to Option
    """

    name: str
    doc: str
    temperature: float | None = None
    top_k: bool = False
    needs: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def dense(self) -> bool:
        """Whether every adapter gets a weight, however small, unless `top_k` cuts them off."""
        return self.temperature is not None and self.top_k

    @property
    def module(self) -> ModuleType:
        """Imported when it is needed, so that help and checks stay light."""
        return import_module(f"lorameta.operator.{self.name}")

    def __call__(self, context: Context) -> tuple[np.ndarray, dict[str, Any]]:
        """Find the weights, float64 of shape (N,), and tell how in JSON-able details."""
        from lorameta.operator.weights import keep_largest

        weights, details = self.module.weigh(context)
        if context.top_k is not None:
            weights = keep_largest(weights, context.distances, context.top_k)
        return weights, details

    def require(self, bank: AdapterBank, distance: str, options: Mapping[str, Any]) -> None:
        """Raise what the operator lacks for this bank and distance, before any work is done."""
        check = getattr(self.module, "require", None)
        if check is not None:
            check(bank, distance, options)
