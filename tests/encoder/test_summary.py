from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from lorameta.encoder import DatasetSummary, Summaries, TokenCounts, merge
from lorameta.errors import BankError, UsageError


def same(ours: DatasetSummary, theirs: DatasetSummary) -> bool:
    pairs = [(getattr(ours, f.name), getattr(theirs, f.name)) for f in fields(ours)]
    return all((a is None) == (b is None) and (a is None or np.array_equal(a, b)) for a, b in pairs)


def test_each_dataset_comes_back_as_it_was(summaries_list):
    ids, items = summaries_list
    bank = Summaries.from_list(ids, items, tokenizer_hash="abc", sentence_model="m")
    assert len(bank) == 3
    assert bank.ids == tuple(ids)
    assert bank.token_counts.shape == (3, 50)
    assert bank.token_counts[0].dtype == np.int64
    assert bank.samples.shape == (3, 4, 6)
    for name, item in zip(ids, items, strict=True):
        assert same(bank[name], item)


def test_select_keeps_the_order_asked_for(summaries_list):
    ids, items = summaries_list
    bank = Summaries.from_list(ids, items, tokenizer_hash="abc", sentence_model="m").select(["eel", "ünï/cat"])
    assert bank.ids == ("eel", "ünï/cat")
    assert bank.tokenizer_hash == "abc"
    assert bank.sentence_model == "m"
    assert same(bank["eel"], items[2])
    assert same(bank["ünï/cat"], items[0])
    assert len(bank.select([])) == 0


def test_unknown_ids_are_all_named(summaries_list):
    bank = Summaries.from_list(*summaries_list)
    with pytest.raises(BankError, match=r"(?s)fox.*owl"):
        bank.select(["fox", "dog", "owl"])
    with pytest.raises(BankError, match="'fox'"):
        bank["fox"]


def test_a_part_that_no_dataset_has_is_none(summaries_list):
    ids, items = summaries_list
    bank = Summaries.from_list(ids, [DatasetSummary(item.rows, token_counts=item.token_counts) for item in items])
    assert bank.means is None
    assert bank.samples is None
    assert bank.has("tokens")
    assert not bank.has("sentence")
    assert bank["dog"].mean is None
    with pytest.raises(BankError, match="lack the part 'sentence'"):
        bank.part("sentence")
    with pytest.raises(UsageError, match="lacks the part 'sentence'"):
        bank["dog"].part("sentence")


def test_datasets_that_do_not_fit_are_all_named(summaries_list):
    ids, (first, second, third) = summaries_list
    second = replace(second, token_counts=None)
    third = replace(third, mean=np.zeros(5, np.float32))
    with pytest.raises(BankError) as caught:
        Summaries.from_list(ids, [first, second, third])
    assert "dog: has no token_counts" in str(caught.value)
    assert "eel: mean has shape (5,)" in str(caught.value)
    with pytest.raises(BankError, match="2 adapter ids"):
        Summaries.from_list(ids[:2], [first])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ("a", "b", "a")}, "a: occurs 2 times"),
        ({"ids": ("a", "", "c")}, "not a non-empty text"),
        ({"rows": np.array([1, 0, 2])}, "dog: rows is below 1"),
        (
            {"token_counts": TokenCounts.from_dense(np.eye(50, dtype=int)[[0, 0, 0]] * [[1], [0], [2]])},
            "dog: token_counts counts no token",
        ),
        ({"token_counts": TokenCounts.from_dense(np.full((3, 50), -1))}, "dog: token_counts has a negative count"),
        ({"token_counts": TokenCounts.from_dense(np.ones((2, 50), int))}, "token_counts: has 2 rows instead of 3"),
        ({"token_counts": np.ones((3, 50), int)}, "token_counts: is a ndarray; make it with TokenCounts.from_dense"),
        ({"means": np.full((3, 6), np.nan, np.float32)}, "eel: means is not finite"),
        ({"means": np.ones((3, 5), np.float32)}, "dimensions differ"),
        ({"means": np.ones((2, 6), np.float32)}, "means: is float32 of shape"),
        ({"covariance_factors": np.full((3, 2, 6), np.inf, np.float32)}, "covariance_factors is not finite"),
        ({"residual_variances": np.full(3, -0.1, np.float32)}, "residual_variances is negative"),
        ({"samples": np.full((3, 4, 6), np.nan, np.float32)}, "dog: samples has no row"),
    ],
)
def test_impossible_numbers_are_refused(summaries_list, change, message):
    bank = Summaries.from_list(*summaries_list)
    with pytest.raises(BankError) as caught:
        replace(bank, **change)
    assert message in str(caught.value)


@pytest.mark.parametrize("hole", [(0, 0), (1, slice(None))])
def test_padding_of_samples_is_whole_rows_at_the_end(summaries_list, hole):
    bank = Summaries.from_list(*summaries_list)
    samples = bank.samples.copy()
    samples[0][hole] = np.nan
    with pytest.raises(BankError, match="ünï/cat: samples is not finite"):
        replace(bank, samples=samples)


def test_merge_joins_the_parts(summaries_list):
    whole = summaries_list[1][0]
    tokens = DatasetSummary(whole.rows, token_counts=whole.token_counts)
    sentence = replace(whole, token_counts=None)
    assert same(merge(tokens, sentence), whole)
    assert same(merge(sentence, tokens), whole)
    assert same(merge(whole), whole)


def test_merge_refuses_what_is_not_one_dataset(summaries_list):
    first, second, _ = summaries_list[1]
    with pytest.raises(UsageError, match="different datasets"):
        merge(first, replace(second, token_counts=None))
    with pytest.raises(UsageError, match="two of the summaries have token_counts"):
        merge(first, DatasetSummary(first.rows, token_counts=first.token_counts))
    with pytest.raises(UsageError, match="at least one"):
        merge()
