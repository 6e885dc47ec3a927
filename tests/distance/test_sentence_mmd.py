from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from lorameta.distance.mmd import mmd
from lorameta.distance.sentence_mmd import sentence_mmd


def draw(seed: int, rows=(5, 5, 3), d: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = [rng.normal(size=(n, d)) * rng.uniform(0, 2, size=d) + rng.normal(size=d) for n in rows]
    return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in found]


def k(x, y) -> np.ndarray:
    return sum(a**2 / (a**2 + cdist(x, y, "sqeuclidean")) for a in (0.2, 0.5, 0.9, 1.3))


@given(seed=st.integers(0, 2**32))
def test_equals_the_sum_over_all_pairs(seed):
    x, y = draw(seed, (7, 4))
    signs = np.concatenate([np.full(7, 1 / 7), np.full(4, -1 / 4)])
    both = np.concatenate([x, y])
    assert sentence_mmd(x, y[None])[0] == pytest.approx(signs @ k(both, both) @ signs, rel=1e-9, abs=1e-13)


@given(seed=st.integers(0, 2**32))
def test_is_symmetric_and_its_root_a_metric(seed):
    x, y, z = draw(seed)
    xy, yx, yz, xz = (sentence_mmd(a, b[None])[0] for a, b in [(x, y), (y, x), (y, z), (x, z)])
    assert xy == pytest.approx(yx, rel=1e-9, abs=1e-13)
    assert np.sqrt(xz) <= np.sqrt(xy) + np.sqrt(yz) + 1e-6
    assert 0 <= xy <= 8
    assert sentence_mmd(x, np.repeat(x, 2, axis=0)[None])[0] < 1e-13


def test_in_one_dimension_it_is_the_distance_of_token_ids():
    p, q = np.array([3, 0, 1, 0, 2]), np.array([0, 1, 1, 5, 0])
    x, y = (np.repeat(np.arange(5.0), c)[:, None] for c in (p, q))
    assert sentence_mmd(x, y[None])[0] == pytest.approx(mmd(p, q[None])[0], rel=1e-9)


def test_the_samples_of_equal_laws_come_near():
    """For equal laws the expectation of the biased estimate falls as 1/s; for others it stays."""
    rng = np.random.default_rng(0)
    same = [sentence_mmd(rng.normal(size=(n, 3)), rng.normal(size=(20, n, 3))).mean() for n in (10, 160)]
    other = sentence_mmd(rng.normal(size=(160, 3)), rng.normal(size=(20, 160, 3)) + 1).mean()
    assert same[0] / same[1] == pytest.approx(16, rel=0.25)
    assert other > 5 * same[1]
