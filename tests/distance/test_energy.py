from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance

from lorameta.distance.energy import energy


def draw(seed: int, rows=(5, 5, 3), d: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, d)) * rng.uniform(0, 2, size=d) + rng.normal(size=d) for n in rows]


@given(seed=st.integers(0, 2**32))
def test_equals_scipys_in_one_dimension(seed):
    x, y = draw(seed, (7, 4), d=1)
    assert energy(x, y[None])[0] == pytest.approx(energy_distance(x[:, 0], y[:, 0]), rel=1e-9)


@given(seed=st.integers(0, 2**32))
def test_equals_the_means_of_scipys_pairs(seed):
    x, y = draw(seed, (7, 4))
    squared = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert energy(x, y[None])[0] == pytest.approx(np.sqrt(squared), rel=1e-9)


@given(seed=st.integers(0, 2**32))
def test_is_a_metric(seed):
    x, y, z = draw(seed)
    assert energy(x, y[None])[0] == pytest.approx(energy(y, x[None])[0], rel=1e-9)
    assert energy(x, z[None])[0] <= energy(x, y[None])[0] + energy(y, z[None])[0] + 1e-9
    assert energy(x, x[None])[0] == 0
    assert energy(x, np.repeat(x, 2, axis=0)[None])[0] == 0


def test_two_points_by_hand():
    # 2 · 5 - 0 - 0 = 10
    assert energy(np.zeros((1, 2)), np.array([[[3.0, 4.0]]]))[0] == pytest.approx(np.sqrt(10), rel=1e-15)


@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-7])
def test_near_rows_keep_their_digits(size):
    """Rows of length one that are `size` apart: the formula ‖x‖² + ‖y‖² - 2⟨x, y⟩ alone would lose them."""
    x = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    x = np.concatenate([x, x * (1 + size)])
    y = x[::2] * (1 - 3 * size)
    squared = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert energy(x, y[None])[0] ** 2 == pytest.approx(squared, rel=1e-9, abs=1e-12)
    alone = energy(x[:1], x[None, 8:9])[0]
    assert alone**2 == pytest.approx(2 * size, rel=1e-8)
