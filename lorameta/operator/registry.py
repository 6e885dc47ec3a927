"""What an operator is: a way to weights, and what it has to know for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Operator:
    """A way to turn what is known of a dataset into mixing weights.

    Attributes
    ----------
    name : str
    needs : str
        ``"distances"`` alone; ``"fitted"``, a network fitted to the bank; ``"prototypes"``, the means of sentence
        embeddings; or ``"rows"``, labelled rows and the base model.
    function : callable or None
        Of operators that need distances alone: f(distances (N,), *, temperature) → weights (N,).
    temperature : bool
        Whether a temperature has a meaning.
    top_k : bool
        Whether the largest weights may be kept and normalised: not where the weights are a solution as a whole.
    signed : bool
        Whether weights may be negative.
    options : tuple of str
        What ``operator_options`` may hold.
    doc : str
        One line for tables and help.
    """

    name: str
    needs: str
    function: Callable[..., np.ndarray] | None
    temperature: bool
    top_k: bool
    signed: bool
    options: tuple[str, ...]
    doc: str
