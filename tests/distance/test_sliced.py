from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.distance.sliced import DIRECTIONS, directions, sliced


def draw(seed: int, rows=(5, 5, 3), d: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, d)) * rng.uniform(0, 2, size=d) + rng.normal(size=d) for n in rows]


@pytest.mark.parametrize("rows", [(7, 7), (7, 5), (6, 3), (1, 4), (64, 30)])
def test_equals_pot_along_the_same_directions(ot, rows):
    x, y = draw(0, rows)
    expected = ot.sliced_wasserstein_distance(x, y, projections=directions(4), p=2)
    assert sliced(x, y[None])[0] == pytest.approx(expected, rel=1e-9)


def test_is_the_mean_of_the_lines(ot):
    x, y = draw(1, (6, 4))
    lines = [ot.lp.wasserstein_1d(x @ along, y @ along, p=2) for along in directions(4).T]
    assert sliced(x, y[None])[0] ** 2 == pytest.approx(np.mean(lines), rel=1e-9)


@pytest.mark.parametrize("dimension", [1, 3, 12, 300])
def test_directions_are_whole_orthonormal_bases(dimension):
    along = directions(dimension)
    assert DIRECTIONS <= along.shape[1] < DIRECTIONS + dimension
    for basis in np.split(along, along.shape[1] // dimension, axis=1):
        np.testing.assert_allclose(basis.T @ basis, np.eye(dimension), atol=1e-13)
    fresh = directions.__wrapped__(dimension)
    np.testing.assert_array_equal(fresh, along)


def test_directions_favour_none():
    """⟨θ, e⟩² of a uniform direction has the mean 1/d, and ⟨θ, e⟩ the mean 0."""
    along = directions(3)
    assert abs(along.mean(axis=1)).max() < 4 / np.sqrt(3 * along.shape[1])
    np.testing.assert_allclose(np.square(along).mean(axis=1), 1 / 3, rtol=1e-12)


@given(seed=st.integers(0, 2**32))
def test_is_a_pseudo_metric(seed):
    x, y, z = draw(seed)
    assert sliced(x, y[None])[0] == pytest.approx(sliced(y, x[None])[0], rel=1e-12)
    assert sliced(x, z[None])[0] <= sliced(x, y[None])[0] + sliced(y, z[None])[0] + 1e-12
    assert sliced(x, x[None])[0] < 1e-14
    assert sliced(z, np.repeat(z, 2, axis=0)[None])[0] < 1e-14  # the same distribution


@given(seed=st.integers(0, 2**32))
def test_a_shift_counts_in_full(seed):
    x = draw(seed)[0]
    v = np.random.default_rng(seed).normal(size=4)
    assert sliced(x, (x + v)[None])[0] == pytest.approx(np.linalg.norm(v) / 2, rel=1e-9)  # √d = 2


def test_blocks_change_nothing(target, bank, monkeypatch):
    whole = sliced(target.sample, bank.samples)
    monkeypatch.setattr("lorameta.distance.sliced.BLOCK", 1)
    np.testing.assert_allclose(sliced(target.sample, bank.samples), whole, rtol=1e-14)
