"""What holds of every distance, and what `distances` refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lorameta.distance import DISTANCES, NAMES, Distance, distance_matrix, distances
from lorameta.distance.cosine import cosine
from lorameta.encoder import DatasetSummary, Summaries
from lorameta.errors import BankError, UsageError

every = pytest.mark.parametrize("name", list(DISTANCES))


def test_the_registry_says_what_is_there():
    assert {"js", "kl", "wasserstein", "mmd"} <= set(NAMES["tokens"])
    assert {"gaussian", "cosine", "sliced", "energy", "sentence_mmd"} <= set(NAMES["sentence"])
    assert list(DISTANCES) == [name for names in NAMES.values() for name in names]
    for part, names in NAMES.items():
        for name in names:
            assert (DISTANCES[name].name, DISTANCES[name].needs) == (name, part)
            assert not DISTANCES[name].doc.endswith(".")
            assert DISTANCES[name].metric + DISTANCES[name].root_metric == (name != "kl")


@every
def test_is_finite_and_not_negative(target, bank, name):
    found = distances(target, bank, name)
    assert found.shape == (8,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert (found > 0).all()


@every
def test_is_zero_to_itself_and_only_there(bank, name):
    table = distance_matrix(bank, name)
    np.testing.assert_allclose(np.diag(table), 0, atol=1e-12)
    assert (table[~np.eye(8, dtype=bool)] > 1e-3).all()


@every
def test_is_symmetric_where_it_should_be(bank, name):
    table = distance_matrix(bank, name)
    assert np.allclose(table, table.T, rtol=1e-9, atol=1e-12) == (name != "kl")
    if DISTANCES[name].root_metric:
        table = np.sqrt(table)
    if DISTANCES[name].metric or DISTANCES[name].root_metric:
        assert (table[:, None, :] <= table[:, :, None] + table[None, :, :] + 1e-7).all()


@every
def test_the_matrix_has_each_dataset_as_the_new_one_in_its_row(bank, name):
    table = distance_matrix(bank, name)
    assert table.shape == (8, 8)
    np.testing.assert_array_equal(table[5], distances(bank["a5"], bank, name))
    assert distance_matrix(bank.select([]), name).shape == (0, 0)


def test_the_matrix_knows_what_is_missing(bank):
    with pytest.raises(UsageError, match="unknown distance 'w1'"):
        distance_matrix(bank, "w1")
    with pytest.raises(BankError, match="lack the part 'sentence'"):
        distance_matrix(Summaries(bank.ids, bank.rows, bank.token_counts), "energy")


@every
def test_what_is_remembered_of_a_bank_is_of_that_bank(target, bank, name):
    """Distances remember arrays of a bank; another bank, made when the first is gone, has its own."""
    for ids in (["a0", "a1"], ["a4", "a5"], ["a2", "a7"]):
        expected = distances(target, bank, name)[[bank.ids.index(i) for i in ids]]
        np.testing.assert_allclose(distances(target, bank.select(ids), name), expected, rtol=1e-12)


@every
def test_permuting_the_bank_permutes_the_distances(target, bank, name):
    order = np.random.default_rng(0).permutation(8)
    permuted = bank.select([bank.ids[i] for i in order])
    np.testing.assert_allclose(distances(target, permuted, name), distances(target, bank, name)[order], rtol=1e-12)


@every
def test_one_adapter_at_a_time_gives_the_same(target, bank, name):
    alone = [distances(target, bank.select([i]), name)[0] for i in bank.ids]
    np.testing.assert_allclose(alone, distances(target, bank, name), rtol=1e-12)


@every
def test_storing_the_bank_in_float16_costs_three_digits(target, bank, name, tmp_path):
    stored = Summaries.load(bank.save(tmp_path / "summaries.safetensors"))
    np.testing.assert_allclose(distances(target, stored, name), distances(target, bank, name), rtol=5e-3)


@every
def test_an_empty_bank_has_no_distances(target, bank, name):
    assert distances(target, bank.select([]), name).shape == (0,)


def test_an_unknown_name_is_answered_with_those_there_are(target, bank):
    with pytest.raises(UsageError, match="unknown distance 'w1'; there are js, kl, wasserstein, mmd, gaussian"):
        distances(target, bank, "w1")


@every
def test_a_missing_part_is_named(target, bank, name):
    part = DISTANCES[name].needs
    bare_target = DatasetSummary(30)
    bare_bank = Summaries(bank.ids, bank.rows)
    with pytest.raises(UsageError, match=f"lacks the part '{part}'"):
        distances(bare_target, bank, name)
    with pytest.raises(BankError, match=f"lack the part '{part}'"):
        distances(target, bare_bank, name)


def test_another_tokenizer_or_model_is_noticed_by_its_size(target, bank):
    with pytest.raises(BankError, match="59 tokens in its vocabulary, the bank's 60"):
        distances(replace(target, token_counts=target.token_counts[1:] + 1), bank, "js")
    with pytest.raises(BankError, match="11 numbers in an embedding, the bank's 12"):
        distances(replace(target, mean=target.mean[1:]), bank, "cosine")
    with pytest.raises(BankError, match="11 numbers in an embedding, the bank's 12"):
        distances(replace(target, sample=target.sample[:, 1:]), bank, "energy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1])
def test_a_distance_that_is_no_number_is_an_error(target, bank, monkeypatch, value):
    def broken(target: DatasetSummary, bank: Summaries) -> np.ndarray:
        return np.where(np.arange(len(bank)) == 2, value, 1.0)

    monkeypatch.setitem(DISTANCES, "broken", Distance("broken", "tokens", broken, metric=False, doc=""))
    with pytest.raises(BankError, match=f"a2: {value}"):
        distances(target, bank, "broken")


@pytest.mark.parametrize("name", [name for name, distance in DISTANCES.items() if distance.needs == "sentence"])
@pytest.mark.parametrize("field", ["mean", "covariance_factor", "residual_variance", "sample"])
def test_nan_in_the_dataset_is_an_error(target, bank, field, name):
    with pytest.raises(UsageError, match="NaN or infinite"):
        distances(replace(target, **{field: np.nan * getattr(target, field)}), bank, name)


def test_nan_is_not_taken_for_the_zero_vector():
    assert np.isnan(cosine(np.full(2, np.nan), np.eye(2))).all()
