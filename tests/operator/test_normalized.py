from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import zscore

from lorameta.operator.normalized import normalized

rows = arrays(np.float64, st.integers(2, 12), elements=st.integers(0, 1000).map(lambda i: i / 100)).filter(np.ptp)


@given(rows, st.floats(0.05, 20))
def test_equals_softmin_of_scipys_z_scores(d, t):
    np.testing.assert_allclose(normalized(d, temperature=t), softmax(-zscore(d) / t), rtol=1e-7, atol=1e-300)


@given(rows, st.floats(0.01, 100), st.floats(-10, 10))
def test_unit_and_origin_do_not_matter(d, unit, origin):
    np.testing.assert_allclose(normalized(unit * d + origin), normalized(d), rtol=1e-6)


@pytest.mark.parametrize("d", [[0.1, 0.1, 0.1], [0.0, 0.0], [5.0], [0.1 + 0.2, 0.3], [1e-320, 1e-320]])
def test_equal_distances_are_uniform(d):
    np.testing.assert_allclose(normalized(np.array(d)), 1 / len(d), rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-300, 1e-30, 1e300])
def test_extreme_units(unit):
    d = np.array([1.0, 2.0, 4.0])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_allclose(normalized(unit * d), normalized(d), rtol=1e-12)


def test_limits():
    d = np.array([0.3, 0.1, 0.1, 0.5])
    np.testing.assert_array_equal(normalized(d, temperature=0), [0, 0.5, 0.5, 0])
    np.testing.assert_array_equal(normalized(d, temperature=np.inf), [0.25] * 4)
