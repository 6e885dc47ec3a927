"""An adapter as the start of a training: its update unchanged, its factors such that gradients can move them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.adapter.peft_format import PREFIX
from lorameta.errors import BankError

#: Length of a row of A as PEFT draws it: entries uniform within ±1/√d_in.
ROW = 1 / math.sqrt(3)


def cut(adapter: Adapter, rank: int) -> Mapping[str, LoraPair]:
    """Return the modules of an adapter at `rank` or less: by the best approximation of the update, where it must be
    cut."""
    if all(pair.rank <= rank for pair in adapter.modules.values()):
        return adapter.modules
    from lorameta.combiner import combine

    return combine([adapter], [1.0], method="delta", rank=rank)[0]


def balanced(pair: LoraPair, scaling: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a and B of the same update with `scaling`, rows of A at least as long as those of a fresh adapter.

    AdamW moves every entry by about the learning rate, so that the update changes with the length of the other
    factor's rows. A mixture of adapters, cut by an SVD, has short ones and would hardly move: (c a, b / c) is the same
    update as (a, b).

    Parameters
    ----------
    pair : LoraPair
    scaling : float
        alpha / rank of the training.

    Returns
    -------
    A : numpy.ndarray of shape (r, d_in)
    B : numpy.ndarray of shape (d_out, r)
        Columns are zero where the row of A is.
    """
    A, B = pair.A.astype(np.float64), pair.B.astype(np.float64) * (pair.scaling / scaling)
    length = np.linalg.norm(A, axis=1)
    stretch = np.divide(ROW, length, out=np.ones_like(length), where=(length > 0) & (length < ROW))
    B[:, length == 0] = 0.0
    return (A * stretch[:, None]).astype(np.float32), (B / stretch).astype(np.float32)


def write_into(parameters: Mapping[str, Any], modules: Mapping[str, LoraPair], scaling: float) -> None:
    """Write an adapter into the fresh LoRA parameters of a model.

    Directions that the adapter does not use (a smaller rank, rows of A that are zero) keep the random row that they
    were drawn with, and a zero column of B: they change nothing, and can be learned.
    """
    import torch

    with torch.no_grad():
        for module, pair in modules.items():
            A, B = balanced(pair, scaling)
            used = np.flatnonzero(np.abs(A).max(axis=1) > 0)
            into_A = parameters[f"{PREFIX}{module}.lora_A.default.weight"]
            into_B = parameters[f"{PREFIX}{module}.lora_B.default.weight"]
            into_A[used] = torch.from_numpy(A[used])
            into_B[:, used] = torch.from_numpy(B[:, used])


def begin_with(
    model: Any, adapter: Adapter, rank: int, scaling: float, trained: Collection[str] | None
) -> dict[str, LoraPair]:
    """Lay an adapter on a model with fresh factors, and freeze the modules of it that are not trained.

    Parameters
    ----------
    model : peft.PeftModel
    rank : int
        Of the training.
    scaling : float
        alpha / rank of the training.
    trained : collection of str or None
        Modules that are trained; None: all.

    Returns
    -------
    dict of str to LoraPair
        The frozen modules, as they lie there.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    modules = cut(adapter, rank)
    write_into(parameters, modules, scaling)
    frozen = {} if trained is None else {module: pair for module, pair in modules.items() if module not in trained}
    for module in frozen:
        for half in "AB":
            parameters[f"{PREFIX}{module}.lora_{half}.default.weight"].requires_grad_(False)
    return frozen


def check_start(adapter: Adapter, linear: Mapping[str, tuple[int, int]], targets: tuple[str, ...], base: str) -> None:
    """Refuse an adapter of another base, or with modules that would not be trained and so be lost.

    Parameters
    ----------
    linear : mapping of str to (d_out, d_in)
        The base's linear layers.
    targets : tuple of str
        Paths or last parts of names; all of `linear` if ``("all-linear",)``.
    """
    from lorameta.base_model import ALL_LINEAR

    problems = []
    for module, pair in adapter.modules.items():
        if module not in linear:
            problems.append(f"{module} is no linear layer of the base")
        elif linear[module] != pair.shape:
            problems.append(f"{module} changes a weight of {pair.shape}; that of the base is {linear[module]}")
        elif targets != (ALL_LINEAR,) and not any(module == t or module.endswith(f".{t}") for t in targets):
            problems.append(f"{module} is changed by the adapter and not among the targets {', '.join(targets)}")
        elif not (np.isfinite(pair.A).all() and np.isfinite(pair.B).all()):
            problems.append(f"{module} has numbers that are not finite")
    if not adapter.modules:
        problems.append("it has no modules")
    BankError.raise_if(
        problems,
        f"the adapter {adapter.name or ''} cannot be refined on {base}:".replace("  ", " "),
        "Name the base that it was made for with --base, and leave --targets out.",
    )
