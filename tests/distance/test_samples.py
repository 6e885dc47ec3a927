"""What holds of the distances on samples: padding, order of rows, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.distance.energy import energy
from lorameta.distance.sentence_mmd import sentence_mmd
from lorameta.distance.sliced import sliced
from lorameta.errors import UsageError

pytestmark = pytest.mark.parametrize("function", [sliced, energy, sentence_mmd])


def test_padding_changes_nothing(target, bank, function):
    samples = bank.samples.copy()
    samples[1, 3:] = samples[4, 1:] = np.nan
    found = function(target.sample, samples)
    alone = [function(target.sample, x[None, ~np.isnan(x).any(axis=1)])[0] for x in samples]
    np.testing.assert_allclose(found, alone, rtol=1e-12)
    assert abs(found - function(target.sample, bank.samples))[[1, 4]].min() > 1e-3


def test_the_order_of_the_rows_does_not_matter(target, bank, function):
    order = np.random.default_rng(0).permutation(7)
    found = function(target.sample[order], bank.samples[:, order[::-1]])
    np.testing.assert_allclose(found, function(target.sample, bank.samples), rtol=1e-12)


def test_blocks_change_nothing(target, bank, function, monkeypatch):
    whole = function(target.sample, bank.samples)
    monkeypatch.setattr("lorameta.distance.samples.BLOCK", 1)
    np.testing.assert_allclose(function(target.sample, bank.samples), whole, rtol=1e-12)


def test_a_rotation_of_the_space_moves_no_distance_of_pairs(target, bank, function):
    if function is sliced:  # its directions are fixed
        return
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    found = function(target.sample @ q, bank.samples @ q)
    np.testing.assert_allclose(found, function(target.sample, bank.samples), rtol=1e-6)


def test_a_sample_that_is_none_is_refused(target, bank, function):
    with pytest.raises(UsageError, match="at least one row"):
        function(target.sample[:0], bank.samples)
    with pytest.raises(UsageError, match="no NaN"):
        function(np.where(np.arange(7)[:, None] == 3, np.nan, target.sample), bank.samples)
    with pytest.raises(UsageError, match="every sample must have at least one row"):
        function(target.sample, np.full((2, 3, 12), np.nan))
    with pytest.raises(UsageError, match="shapes"):
        function(target.sample[:, 1:], bank.samples)
