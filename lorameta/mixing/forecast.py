"""What a generated adapter will gain over the base, foretold from the bank's own leave-one-out record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import BankError, UsageError
from lorameta.files import json_text
from lorameta.files.atomic import write_file

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank

FILE = "leave_one_out.json"
FORMAT = 1
LEVEL = 0.8
#: What a forecast depends on; a record made with other values says nothing about this mixture.
SETTINGS = ("distance", "operator", "temperature", "top_k", "combiner")


@dataclass(frozen=True)
class Record:
    """Leave-one-out results of a bank: every task once as the new dataset, with its own adapter left out.

    Attributes
    ----------
    bank : str
        `AdapterBank.content_hash` of the bank that it was measured on.
    settings : dict
        How the adapters were mixed, keys `SETTINGS`.
    ids : tuple of str
    p_values : numpy.ndarray of shape (N,)
        `Unusual.p_value` of each task for the rest of the bank, in (0, 1].
    gains : dict of str to numpy.ndarray of shape (N,)
        Metric → score of the generated adapter less that of the base (for ``loss``: base less adapter).
    """

    bank: str
    settings: dict[str, Any]
    ids: tuple[str, ...]
    p_values: np.ndarray
    gains: dict[str, np.ndarray]

    def save(self, path: Path) -> None:
        """Write the record as JSON."""
        tasks = [
            {"id": name, "p_value": round(float(self.p_values[i]), 6)}
            | {"gain": {metric: round(float(values[i]), 6) for metric, values in sorted(self.gains.items())}}
            for i, name in enumerate(self.ids)
        ]
        content = {"format": FORMAT, "bank": self.bank, "settings": self.settings, "tasks": tasks}
        write_file(path, (json.dumps(content, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read what :meth:`save` wrote; BankError says what is wrong with the file."""
        try:
            content = json_text.read(path)
            if content["format"] != FORMAT:
                raise BankError(f"{path} has the format {content['format']!r}; this version reads {FORMAT}")
            tasks = content["tasks"]
            metrics = sorted(tasks[0]["gain"])
            found = cls(
                str(content["bank"]),
                dict(content["settings"]),
                tuple(str(task["id"]) for task in tasks),
                np.array([task["p_value"] for task in tasks], dtype=np.float64),
                {m: np.array([task["gain"][m] for task in tasks], dtype=np.float64) for m in metrics},
            )
            if any(values.ndim != 1 for values in (found.p_values, *found.gains.values())):
                raise ValueError("a task has several values for one metric")
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise BankError(f"{path} is no leave-one-out record ({error!r}); delete it or measure it again") from error
        bad = [m for m, values in {"p_value": found.p_values, **found.gains}.items() if not np.isfinite(values).all()]
        BankError.raise_if([f"{m} is not finite" for m in bad], f"{path} is damaged:")
        return found

    @classmethod
    def of(cls, bank: AdapterBank, settings: Mapping[str, Any]) -> Record | None:
        """Return the record of `bank` for `settings`; None if it has none, or one of other settings or other
        adapters."""
        path = bank.path / FILE
        if not path.is_file():
            return None
        record = cls.load(path)
        same = all(record.settings.get(name) == settings.get(name) for name in SETTINGS)
        return record if same and record.bank == bank.content_hash else None

    def forecast(self, p_value: float, *, level: float = LEVEL) -> dict[str, dict[str, float]]:
        """Metric → {estimate, low, high} of the gain of a dataset that is `p_value` unusual; see :func:`interval`."""
        found = {}
        for metric, gains in self.gains.items():
            estimate, low, high = interval(p_value, self.p_values, gains, level=level)
            found[metric] = {"estimate": round(estimate, 4), "low": round(low, 4), "high": round(high, 4)}
        return found


def interval(x: float, xs: np.ndarray, ys: np.ndarray, *, level: float = LEVEL) -> tuple[float, float, float]:
    """Least-squares line through (xs, ys) at x, with the jackknife+ interval around it.

    With μ₋ᵢ the line fitted without point i and Rᵢ = |yᵢ - μ₋ᵢ(xᵢ)|, the interval reaches from the ⌊α(n+1)⌋-th
    smallest μ₋ᵢ(x) - Rᵢ to the ⌈(1-α)(n+1)⌉-th smallest μ₋ᵢ(x) + Rᵢ, α = 1 - level. For exchangeable points it covers a
    new one with a probability of at least 1 - 2α, and in practice of about 1 - α, however wrong the line is.

    Parameters
    ----------
    x : float
    xs, ys : numpy.ndarray of shape (n,), n ≥ 3
    level : float
        In (0, 1).

    Returns
    -------
    estimate, low, high : float
        Low and high are infinite where n is too small for the level.

    References
    ----------
    Barber, Candès, Ramdas and Tibshirani, Predictive inference with the jackknife+, Ann. Statist. 49 (2021).
    """
    xs, ys = np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
    n, alpha = len(xs), 1 - level
    if n < 3 or xs.shape != ys.shape or not 0 < level < 1:
        raise UsageError(f"a forecast needs at least three tasks and a level between 0 and 1; got {n} and {level}")
    estimate = float(_line(xs, ys, np.array([x]))[0])
    left = np.empty(n)
    residuals = np.empty(n)
    for i in range(n):
        others = np.arange(n) != i
        left[i], here = _line(xs[others], ys[others], np.array([x, xs[i]]))
        residuals[i] = abs(ys[i] - here)
    lower, upper = floor(alpha * (n + 1)), ceil((1 - alpha) * (n + 1))
    low = float(np.sort(left - residuals)[lower - 1]) if lower >= 1 else -np.inf
    high = float(np.sort(left + residuals)[upper - 1]) if upper <= n else np.inf
    return estimate, low, high


def _line(xs: np.ndarray, ys: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the values at `at` of the least-squares line; the mean where all xs are equal."""
    centred = xs - xs.mean()
    spread = float(centred @ centred)
    slope = float(centred @ ys) / spread if spread > 1e-18 else 0.0
    return np.asarray(ys.mean() + slope * (at - xs.mean()))
