"""Intervals against formulas written down here, and by how often they cover the truth."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.intervals import bootstrap, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 10), (10, 10), (57, 200)])
def test_wilson_is_the_root_of_the_score_equation(k, n):
    z = 1.959963984540054
    for p in wilson(k, n):
        if 0 < p < 1:
            assert abs(k / n - p) == pytest.approx(z * np.sqrt(p * (1 - p) / n), rel=1e-6)


def test_the_bootstrap_agrees_with_the_normal_approximation_on_many_rows():
    values = np.random.default_rng(1).normal(3, 2, 4000)
    low, high = bootstrap(values)
    spread = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == (
        pytest.approx(values.mean() - spread, abs=0.02),
        pytest.approx(values.mean() + spread, abs=0.02),
    )
    assert bootstrap(values) == (low, high)


def test_weights_make_a_ratio_of_sums():
    low, high = bootstrap([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2.0), pytest.approx(2.0))
    assert bootstrap([3.0], [2.0]) == (1.5, 1.5)
