"""A mixture on the simplex is no larger than its largest adapter; off it, and for averaged factors, it may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.adapter import Adapter, LoraPair
from lorameta.combiner import combine

MODULES = {"q": (6, 5), "v": (3, 5)}


def random_adapters(rng: np.random.Generator, count: int) -> list[Adapter]:
    def pair(shape: tuple[int, int]) -> LoraPair:
        rank, scale = int(rng.integers(1, 4)), 10 ** rng.uniform(-1, 1)
        return LoraPair(rng.normal(size=(rank, shape[1])), scale * rng.normal(size=(shape[0], rank)), rng.uniform(1, 3))

    return [Adapter({name: pair(shape) for name, shape in MODULES.items()}, "base") for _ in range(count)]


def norm(modules: dict[str, LoraPair]) -> float:
    return float(np.sqrt(sum(np.square(pair.delta().astype(np.float64)).sum() for pair in modules.values())))


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 30), st.sampled_from(["concat", "delta"]), st.sampled_from([0.1, 1.0, 10.0]))
def test_on_the_simplex_the_mixture_is_no_larger_than_the_largest(seed, count, method, spread):
    rng = np.random.default_rng(seed)
    adapters, weights = random_adapters(rng, count), rng.dirichlet(np.full(count, spread))
    largest = max(adapter.norm() for adapter in adapters)
    assert norm(combine(adapters, weights, method=method)[0]) <= largest * (1 + 1e-5)


@given(seeds, st.integers(1, 30))
def test_signed_weights_have_their_own_bound(seed, count):
    rng = np.random.default_rng(seed)
    adapters, weights = random_adapters(rng, count), rng.normal(size=count)
    largest = max(adapter.norm() for adapter in adapters)
    assert norm(combine(adapters, weights, method="concat")[0]) <= np.abs(weights).sum() * largest * (1 + 1e-5)


@pytest.mark.parametrize("method", ["concat", "delta"])
def test_weights_that_sum_to_one_but_have_signs_break_it(method):
    """w = (2, −1) with ΔW and −ΔW gives 3 ΔW: what the sum of |w| allows, and three times the largest."""
    (first,) = random_adapters(np.random.default_rng(0), 1)
    opposite = Adapter({k: LoraPair(p.A, -p.B, p.scaling) for k, p in first.modules.items()}, "base")
    assert norm(combine([first, opposite], [2.0, -1.0], method=method)[0]) == pytest.approx(3 * first.norm(), rel=1e-5)


def test_averaged_factors_break_it_even_on_the_simplex():
    """(t, 1/t) and (1/t, t) are one and the same update; their averaged factors are (t + 1/t)² / 4 times as large."""
    t = 8.0
    A, B = np.eye(1, 4), np.eye(4, 1)
    twins = [Adapter({"m": LoraPair(A * s, B / s)}, "base") for s in (t, 1 / t)]
    modules, errors = combine(twins, [0.5, 0.5], method="factor")
    assert twins[0].norm() == twins[1].norm() == 1.0
    assert norm(modules) == pytest.approx((t + 1 / t) ** 2 / 4)
    assert errors["m"] == pytest.approx((t + 1 / t) ** 2 / 4 - 1)
    assert norm(combine(twins, [0.5, 0.5], method="delta")[0]) == pytest.approx(1.0)
