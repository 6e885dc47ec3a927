"""What `operator="auto"` does with labelled rows in a number of seconds: decided beforehand, from sizes alone.

The same rows, bank, budget and precision of the passes give the same plan on every machine, so that the same call gives
the same adapter. The seconds are those of a machine of two cores; a slower one takes longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorameta.data import Example

#: Default number of seconds.
BUDGET = 60.0
#: Operations per second of two cores in such passes: with AVX2 in float32, 430 tokens/s through 135 million parameters,
#: and with AMX in bfloat16.
SPEED, FAST = 1.16e11, 2.2e11
#: Characters of a token; seconds to import the libraries and open the bank, to load a base per parameter, and to solve
#: a readout.
CHARACTERS, STARTING, LOADING, SOLVING = 3.5, 5.0, 3e-8, 10.0
#: Fewer labelled rows than this cannot be both looked at and held out.
LEAST = 8
#: Candidates and rows of `stack`, the best first: twice as many of either were no better (docs/results.md). Rows of the
#: backward pass.
STACKS = ((12, 32), (8, 32), (8, 24), (8, 16), (6, 12))
GRADIENT_ROWS = 24
#: Rows of the readout that go before `stack`: it brings most of the gain.
FITTED = 128
#: Labelled rows up to which more of them are known to help.
ENOUGH = 256


@dataclass(frozen=True)
class Stages:
    """How many rows and candidates each stage gets; 0 leaves it out.

    Attributes
    ----------
    held_out : int
        Rows that decide which stage's adapter is kept.
    gradient, stack, candidates, fit : int
        Rows of the backward pass, rows and candidates of `stack`, rows of the readout.
    seconds : float
        Forecast of all that, on two cores.
    why : str
        One sentence.
    more : tuple of str
        What more labels or time would change.
    """

    held_out: int = 0
    gradient: int = 0
    stack: int = 0
    candidates: int = 0
    fit: int = 0
    seconds: float = 0.0
    why: str = ""
    more: tuple[str, ...] = field(default_factory=tuple)


def plan(labelled: Sequence[Example], adapters: int, parameters: int, budget: float, fast: bool = False) -> Stages:
    """Divide a budget among the stages.

    Parameters
    ----------
    labelled : sequence of Example
    adapters : int
        In the bank.
    parameters : int
        Of the base.
    budget : float
        Seconds.
    fast : bool
        Whether the processor multiplies in bfloat16.
    """
    n, row = len(labelled), seconds_per_row(labelled, parameters, FAST if fast else SPEED)
    few = f"{n} labelled row{'s' * (n != 1)}"
    if n < LEAST:
        return Stages(why=f"{few}, {LEAST} are needed to try adapters on", more=(f"{LEAST} labelled rows or more",))
    held, rest = min(32, n // 4), n - min(32, n // 4)
    fixed = STARTING + LOADING * parameters + 4 * held * row
    gradient = min(GRADIENT_ROWS, rest)
    left = budget - fixed - 4 * gradient * row
    if left < 0:
        needed = budget - left
        return Stages(
            why=f"one look at {gradient} rows takes about {needed:.0f} s with this base; the budget is {budget:.0f}",
            more=(f"a budget of {needed + 60 * row * 10:.0f} s",),
        )
    share = max(0.6 * left, min(left, SOLVING + FITTED * row))
    fit = int(min(n, max(0.0, (share - SOLVING) / row)))
    fit = fit if fit >= min(n, 16) else 0
    left -= fit * row + (SOLVING if fit else 0.0)
    sizes = [(min(k, adapters), min(rows, rest)) for k, rows in STACKS]
    costs = [(k + 6) * rows * row for k, rows in sizes]
    (candidates, rows), cost = next(
        ((size, cost) for size, cost in zip(sizes, costs, strict=True) if cost <= left), ((0, 0), 0.0)
    )
    if fit:  # what `stack` leaves
        more_rows = min(n - fit, int((left - cost) / row))
        fit, left = fit + more_rows, left - more_rows * row
    more = []
    if n < ENOUGH:
        more.append(f"more labelled rows help (there are {n})")
    if fit < n or (candidates, rows) != sizes[0]:
        whole = fixed + 4 * gradient * row + costs[0] + SOLVING + n * row
        more.append(f"a budget of {max(whole, budget):.0f} s would look at all {n} rows and {sizes[0][0]} adapters")
    seconds = budget - left + cost
    why = f"{few} and the base model are at hand"
    return Stages(held, gradient, rows, candidates, fit, seconds, why, tuple(more))


def seconds_per_row(labelled: Sequence[Example], parameters: int, speed: float) -> float:
    """Return a forward pass over one row; the beginning that all prompts share is run once and does not count."""
    from lorameta.base_model.shared_prefix import common_beginning

    if not labelled:
        return 0.0
    shared = common_beginning([example.input for example in labelled]) if len(labelled) > 1 else 0
    characters = sum(len(example.input) + len(example.output) for example in labelled) / len(labelled) - shared
    return (characters / CHARACTERS + 2) * 2 * parameters / speed
