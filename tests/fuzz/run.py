"""One run: inputs by their numbers, so that each can be had again, and what went wrong with them."""

from __future__ import annotations

import random
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lorameta.errors import LorametaError
from tests.fuzz.kinds import Kinds, memory

#: Seconds of processor time that one input may take, and bytes that it may add to the memory in use.
SECONDS, BYTES = 2.0, 500_000_000


@dataclass
class Outcome:
    """What became of the inputs of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    memory: int = 0


def run(bank: Path, folder: Path, numbers: Iterable[int], *, seed: int = 0, only: str | None = None) -> Outcome:
    """Hand over the inputs of these numbers; the same seed and number are the same input."""
    kinds, outcome = Kinds(bank, folder).all(), Outcome()
    names, weights = list(kinds), [weight for weight, _ in kinds.values()]
    for number in numbers:
        rng = random.Random(f"{seed}/{number}")
        name = only or rng.choices(names, weights)[0]
        before, start = memory(), time.process_time()
        where = f"{name} --seed {seed} --number {number}"
        outcome.counts[name] += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kinds[name][1](rng)
            outcome.read[name] += 1
        except LorametaError:
            pass
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            at = traceback.extract_tb(error.__traceback__)[-1]
            outcome.failures.append(
                f"{where}: {type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error!s:.200}"
            )
        seconds, grown = time.process_time() - start, memory() - before
        outcome.slowest, outcome.memory = max(outcome.slowest, seconds), max(outcome.memory, grown)
        if seconds > SECONDS or grown > BYTES:
            outcome.failures.append(f"{where}: took {seconds:.1f} s and {grown / 1e6:.0f} MB")
    return outcome
