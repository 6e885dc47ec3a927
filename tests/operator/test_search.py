"""The search operator: it finds known minima, keeps its promises about start, budget and bounds, and is repeatable."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorameta.errors import MissingExtraError, UsageError
from lorameta.operator.search import search

pytest.importorskip("cma")


def bowl(centre: np.ndarray, calls: list | None = None):
    def loss(w: np.ndarray) -> float:
        if calls is not None:
            calls.append(w)
        return float(((w - centre) ** 2).sum())

    return loss


@pytest.mark.parametrize("size", [1, 2, 6])
def test_it_finds_the_minimum_of_the_penalised_loss(size):
    """(w − c)² + λ |w| / k has its minimum at c − λ / 2k for c > 0."""
    centre = np.linspace(0.2, 0.9, size)
    found, trace = search(bowl(centre), np.zeros(size), evaluations=600, penalty=0.2)
    np.testing.assert_allclose(found, centre - 0.1 / size, atol=0.01)
    assert len(trace) <= 600


@given(seed=st.integers(0, 1000), budget=st.integers(1, 30), size=st.integers(1, 5))
@settings(max_examples=25)
def test_it_keeps_the_budget_the_bounds_and_the_best_it_saw(seed, budget, size):
    rng = np.random.default_rng(seed)
    calls: list[np.ndarray] = []
    ticks: list[int] = []
    start = rng.uniform(-1.5, 1.5, size)
    loss = bowl(rng.normal(size=size), calls)
    found, trace = search(loss, start, evaluations=budget, seed=seed, progress=ticks.append)
    values = np.array([((w - start) ** 2).sum() for w in calls])
    assert values[0] == 0  # the start comes first
    assert len(calls) - 0 == len(trace) == len(ticks) <= budget
    assert all((np.abs(w) <= 1.5).all() and w.shape == (size,) for w in calls)
    penalised = [loss(w) + 0.05 * np.abs(w).mean() for w in list(calls)]
    np.testing.assert_allclose(trace, penalised[: len(trace)])
    assert loss(found) + 0.05 * np.abs(found).mean() == pytest.approx(trace.min())


def test_it_is_never_worse_than_its_start():
    start = np.array([0.3, 0.7])
    found, _ = search(bowl(start), start, penalty=0)
    np.testing.assert_array_equal(found, start)
    np.testing.assert_array_equal(search(bowl(np.zeros(2)), start, evaluations=1)[0], start)


def test_what_is_not_finite_is_worse_than_everything():
    def loss(w: np.ndarray) -> float:
        return float("nan") if w[0] > 0.1 else float("inf") if w[0] < -0.1 else float(w[0])

    found, trace = search(loss, np.zeros(3), evaluations=60, penalty=0)
    assert -0.1 <= found[0] < 0
    assert np.isinf(trace).any()
    with pytest.raises(UsageError, match="start is not finite"):
        search(lambda w: np.nan, np.zeros(3))


def test_the_seed_decides_and_numpy_is_left_alone():
    before = np.random.get_state()[1].copy()
    first, second, other = (search(bowl(np.ones(4)), np.zeros(4), seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_a_loss_may_change_its_argument():
    def loss(w: np.ndarray) -> float:
        value = float((w**2).sum())
        w[:] = 99
        return value

    assert (np.abs(search(loss, np.full(2, 0.5))[0]) <= 1.5).all()


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        ([2.0], {}, "the start must lie within"),
        ([np.nan], {}, "the start must lie within"),
        ([], {}, "at least one weight"),
        ([0.0], {"bounds": (1, -1)}, "in order"),
        ([0.0], {"evaluations": 0}, "evaluations"),
        ([0.0], {"evaluations": 2.5}, "evaluations"),
        ([0.0], {"penalty": -1}, "penalty"),
        ([0.0], {"step": 0}, "step"),
    ],
)
def test_what_cannot_work_is_refused(start, options, message):
    with pytest.raises(UsageError, match=message):
        search(bowl(np.zeros(1)), np.array(start), **options)


def test_without_cma_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(MissingExtraError, match=r"lorameta\[search\]"):
        search(bowl(np.zeros(2)), np.zeros(2))
