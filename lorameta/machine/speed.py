"""How fast the machine is whatever the model: reading memory, multiplying matrices; and the language-model head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from lorameta.base_model.shape import Outline
from lorameta.machine.timing import Line, measure, median_seconds

BUFFER = 256 << 20
SIDE = 1536
#: Bytes of logits and what becomes of them, for each answer token and word of the vocabulary: the logits in the base's
#: dtype and in float32, their softmax, and the gradients of all.
LOGIT_BYTES = 16


@dataclass(frozen=True)
class Speed:
    """Context to the times of the layers.

    Attributes
    ----------
    memory : float
        Bytes per second, read at once.
    multiply : dict of str to float
        dtype → floating-point operations per second, of square matrices.
    """

    memory: float
    multiply: dict[str, float]


@dataclass(frozen=True)
class HeadProbe:
    """What the language-model head costs.

    Attributes
    ----------
    dtype : str
    share : float
        Of the vocabulary that was measured.
    token : float
        Seconds for the logits of one token.
    loss : Line
        Seconds for logits, loss and the backward pass, by number of answer tokens.
    """

    dtype: str
    share: float
    token: float
    loss: Line


def speed(memory: int) -> Speed:
    """Measure within `memory` bytes."""
    import torch

    buffer = torch.ones(max(1 << 20, min(BUFFER, memory // 2)) // 4)
    read = buffer.numel() * 4 / median_seconds(buffer.sum, times=5, seconds=0.5)
    del buffer
    multiply = {}
    for dtype in ("float32", "bfloat16"):
        square = torch.randn(SIDE, SIDE).to(getattr(torch, dtype))
        multiply[dtype] = 2 * SIDE**3 / median_seconds(partial(torch.mm, square, square), times=3, seconds=0.5)
    return Speed(read, multiply)


def probe_head(outline: Outline, dtype: str, *, answers: int, memory: int, seconds: float) -> HeadProbe:
    """Time the head with random weights; part of a vocabulary that does not fit in a third of `memory`."""
    import torch
    from torch.nn.functional import cross_entropy, linear

    kind = getattr(torch, dtype)
    rows = max(1, min(outline.vocabulary, memory // 3 // (outline.width * kind.itemsize)))
    weight = torch.empty(rows, outline.width, dtype=kind).uniform_(-0.05, 0.05)
    one = torch.randn(1, outline.width).to(kind)

    def loss(tokens: int) -> None:
        states = torch.randn(tokens, outline.width).to(kind).requires_grad_()
        logits = linear(states, weight).float()
        cross_entropy(logits, torch.zeros(tokens, dtype=torch.long)).backward()

    with torch.no_grad():
        token = median_seconds(lambda: linear(one, weight), seconds=0.3 * seconds)
    most = max(1, min(answers, memory // 3 // (rows * LOGIT_BYTES)))
    share = rows / outline.vocabulary
    return HeadProbe(dtype, share, token / share, measure(loss, most, 0.7 * seconds).scaled(1 / share))
