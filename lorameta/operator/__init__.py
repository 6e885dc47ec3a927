"""Operators: what is known of a dataset in, mixing weights out.

To add one, write ``lorameta/operator/NAME.py`` with a function ``weigh(context)`` that returns the weights (N,) and
JSON-able details (see :class:`lorameta.operator.context.Context` for what it is given), and name it in `OPERATORS`.
Checks, help and the command line's options follow from that entry.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lorameta.operator.registry import Operator, Option

if TYPE_CHECKING:
    from lorameta.operator.weights import effective_number, mixing_weights

# Options that several operators have; each says its own default. What is not set here has no meaning for the operator.
_CANDIDATES = "how many adapters take part"
_SHORTLIST = "how the adapters that take part are chosen: the nearest, or of all by halving or by gradient"
_ROWS = "labelled rows to look at, drawn by the seed"
_PENALTY = "price of absolute weights"
_WAYS = ("nearest", "halving", "gradient")


def _candidates(default: int | None) -> Option:
    return Option(_CANDIDATES, default, least=1, whole=True)


def _rows(default: int) -> Option:
    return Option(_ROWS, default, least=1, whole=True, flag="labelled-rows")


# fmt: off
_ALL = (
    Operator("attentional", "softmin of the distances", 1.0, top_k=True),
    Operator("normalized", "softmin of the standardised distances", 1.0, top_k=True),
    Operator("nearest", "the nearest adapter alone", top_k=True),
    Operator("uniform", "the average of the whole bank", top_k=True),
    Operator(
        "neural", "softmin of a score that was fitted to the bank", 1.0, top_k=True, needs=("fitted",),
        options={"fitted": Option("a NeuralOperator in place of the bank's", flag=None)},
    ),
    Operator(
        "transfer", "softmin of what adapters were worth to the bank's other tasks, and of distances", 1.0,
        top_k=True, needs=("fitted",),
    ),
    Operator(
        "multi_task", "a share of the bank's adapter of all tasks, the rest the mixture of transfer or normalized", 1.0,
        top_k=True, needs=("fitted",),
        options={"share": Option("weight of the adapter of all tasks, at most 1", 0.75, most=1)},
    ),
    Operator(
        "sparse", "the few signed weights that rebuild the dataset's mean embedding", needs=("sentence",),
        options={"penalty": Option(_PENALTY, 0.1), "candidates": _candidates(None)},
    ),
    Operator(
        "trial", "softmin of the standardised losses that adapters have on labelled rows", 0.25, needs=("rows",),
        options={
            "candidates": _candidates(20), "rows": _rows(16), "shortlist": Option(_SHORTLIST, "nearest", choices=_WAYS),
        },
    ),
    Operator(
        "search", "the weights with the lowest loss on labelled rows, found by trying", needs=("rows",),
        options={
            "penalty": Option(_PENALTY, 0.05), "candidates": _candidates(20), "rows": _rows(16),
            "evaluations": Option("mixtures to try", 40, least=1, whole=True),
            "shortlist": Option(_SHORTLIST, "nearest", choices=_WAYS),
        },
    ),
    Operator(
        "gradient", "softmin of the loss's slopes towards the adapters at the uniform mixture: one backward pass over "
        "labelled rows, no step", 0.5, top_k=True, needs=("rows",),
        options={"candidates": _candidates(None), "rows": _rows(16)},
    ),
    Operator(
        "stack", "the weights from 0 up with the lowest loss on labelled rows, solved for on linearised logits",
        needs=("rows",),
        options={
            "candidates": _candidates(20), "rows": _rows(32), "shortlist": Option(_SHORTLIST, "nearest", choices=_WAYS),
            "rounds": Option("linearisations, each around the weights of the last", 1, least=1, whole=True),
            "ridge": Option("price of squared weights; chosen by cross-validation unless given"),
        },
    ),
)
# fmt: on
#: By name.
OPERATORS: dict[str, Operator] = {operator.name: operator for operator in _ALL}

__all__ = ["OPERATORS", "Operator", "Option", "effective_number", "mixing_weights"]

_HOME = {"effective_number": "lorameta.operator.weights", "mixing_weights": "lorameta.operator.weights"}


def __getattr__(name: str) -> Any:
    """Import what computes when it is first used: the table of operators alone needs no numpy."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
