from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine as scipys

from lorameta.distance.cosine import cosine


def test_equals_scipy(target, bank):
    expected = [scipys(target.mean.astype(float), mean.astype(float)) for mean in bank.means]
    np.testing.assert_allclose(cosine(target.mean, bank.means), expected, rtol=1e-9)


def test_depends_on_directions_alone():
    mean = np.array([3.0, 4.0])
    found = cosine(mean, np.array([[6.0, 8.0], [-4.0, 3.0], [-0.3, -0.4]]))
    np.testing.assert_allclose(found, [0, 1, 2], atol=1e-15)


def test_a_small_angle_keeps_its_digits():
    angle = 1e-8
    found = cosine(np.array([1.0, 0.0]), np.array([[np.cos(angle), np.sin(angle)]]))
    assert found[0] == pytest.approx(angle**2 / 2, rel=1e-6)


def test_the_zero_vector_points_nowhere():
    np.testing.assert_array_equal(cosine(np.zeros(2), np.array([[0.0, 0.0], [1.0, 0.0]])), [1, 1])
    np.testing.assert_array_equal(cosine(np.array([1.0, 0.0]), np.array([[0.0, 0.0]])), [1])
