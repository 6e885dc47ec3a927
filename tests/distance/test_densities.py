from __future__ import annotations

import numpy as np
import pytest

from lorameta.distance import densities as module
from lorameta.distance.densities import densities, on_token_counts
from lorameta.distance.js import js
from lorameta.errors import UsageError


def test_densities_are_positive_and_sum_to_one():
    counts = np.array([[3, 0, 1], [0, 0, 10**12]])
    p = densities(counts)
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(p, counts / counts.sum(axis=1, keepdims=True), atol=1e-9)
    np.testing.assert_array_equal(densities(counts, 0.0), counts / counts.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("counts", [[0, 0], [1, -1], [2, -1], [[1, 2], [0, 0]]])
def test_counts_that_are_no_histogram_are_refused(counts):
    with pytest.raises(UsageError, match="at least one token"):
        densities(np.array(counts))


@pytest.mark.parametrize("cells", [1, 60, 130, 10**6])
def test_blocks_change_nothing(target, bank, monkeypatch, cells):
    monkeypatch.setattr(module, "_BLOCK", cells)
    np.testing.assert_array_equal(on_token_counts(js)(target, bank), js(target.token_counts, bank.token_counts))
    assert on_token_counts(js)(target, bank.select([])).shape == (0,)
