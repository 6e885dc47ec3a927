"""Summaries put together are those that would have been made at once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.encoder import Summaries
from lorameta.encoder.join import join
from lorameta.encoder.summary import DatasetSummary
from lorameta.errors import BankError


def single(seed: int) -> DatasetSummary:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, 9)
    counts[seed % 9] = 5
    d, k = 4, 2
    return DatasetSummary(
        seed + 1, counts, *(rng.normal(size=shape).astype(np.float32) for shape in ((d,), (k, d))), rng.random(),
        rng.normal(size=(1 + seed % 3, d)).astype(np.float32),
    )  # fmt: skip


def stacked(seeds: list[int]) -> Summaries:
    ids = [f"a{seed}" for seed in seeds]
    return Summaries.from_list(ids, map(single, seeds), tokenizer_hash="t", sentence_model="m")


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_parts_make_the_whole(sizes):
    edges = np.cumsum([0, *sizes])
    parts = [stacked(list(range(start, stop))) for start, stop in pairwise(edges)]
    joined, whole = join(*parts), stacked(list(range(edges[-1])))
    assert (joined.ids, joined.tokenizer_hash, joined.sentence_model) == (whole.ids, "t", "m")
    np.testing.assert_array_equal(joined.token_counts.toarray(), whole.token_counts.toarray())
    for name in ("rows", "means", "covariance_factors", "residual_variances", "samples"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_what_does_not_belong_together_is_listed_at_once():
    one, other = stacked([0, 1]), stacked([2])
    wide = replace(other, means=np.ones((1, 5), np.float32), covariance_factors=None, samples=None, tokenizer_hash="u")
    with pytest.raises(BankError) as caught:
        join(one, wide)
    for named in ("tokenizer_hash: some are of t and some of u", "means: their dimensions differ", "a2: has no samples",
                  "a2: has no covariance_factors"):  # fmt: skip
        assert named in str(caught.value), named
    with pytest.raises(BankError, match="a1: occurs 2 times"):
        join(one, stacked([1]))
    with pytest.raises(BankError, match="no summaries"):
        join()
