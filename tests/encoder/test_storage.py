from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorameta.encoder import DatasetSummary, Summaries, TokenCounts
from lorameta.errors import BankError


@pytest.fixture
def bank(summaries_list) -> Summaries:
    return Summaries.from_list(*summaries_list, tokenizer_hash="ab" * 32, sentence_model="some/model")


@pytest.fixture
def path(bank, tmp_path) -> Path:
    return bank.save(tmp_path / "new" / "summaries.safetensors")


def test_what_is_saved_is_loaded(bank, path):
    loaded = Summaries.load(path)
    for field in fields(bank):
        ours, theirs = getattr(bank, field.name), getattr(loaded, field.name)
        if field.name in ("means", "covariance_factors", "samples"):
            assert theirs.dtype == np.float32
            # float16 keeps 11 binary digits
            np.testing.assert_allclose(theirs, ours, rtol=2**-11, atol=2**-24)
        elif isinstance(ours, TokenCounts):
            np.testing.assert_array_equal(theirs.toarray(), ours.toarray())
        elif isinstance(ours, np.ndarray):
            assert theirs.dtype == ours.dtype
            np.testing.assert_array_equal(theirs, ours)
        else:
            assert theirs == ours


def test_same_summaries_same_bytes(bank, path, tmp_path):
    written = path.read_bytes()
    for i in range(5):
        assert bank.save(tmp_path / f"{i}.safetensors").read_bytes() == written
    # Rounding to float16 happens once: what was loaded is saved as it was.
    assert Summaries.load(path).save(tmp_path / "again.safetensors").read_bytes() == written


def test_the_file_is_compact(tmp_path):
    rng = np.random.default_rng(0)
    counts = (rng.random((100, 32_000)) < 0.02) * rng.integers(1, 300, size=(100, 32_000))
    bank = Summaries(tuple(map(str, range(100))), np.full(100, 9), TokenCounts.from_dense(counts))
    nonzero = np.count_nonzero(counts)
    with_header = 101 * 8 + 100 * 8 + 4096
    assert bank.save(tmp_path / "s").stat().st_size <= 4 * nonzero + with_header


@pytest.mark.parametrize("vocabulary", [50, 70_000])
def test_counts_of_any_size_survive(vocabulary, tmp_path):
    counts = np.zeros((2, vocabulary), np.int64)
    counts[0, 0], counts[0, -1], counts[1, 3] = 2**40, 1, 65_536
    bank = Summaries(("a", "b"), np.array([1, 1]), TokenCounts.from_dense(counts))
    loaded = Summaries.load(bank.save(tmp_path / "s")).token_counts
    np.testing.assert_array_equal(loaded.toarray(), counts)


def test_an_empty_bank_and_a_bank_without_parts(bank, tmp_path):
    empty = Summaries.load(bank.select([]).save(tmp_path / "empty"))
    assert len(empty) == 0
    assert empty.token_counts.shape == (0, 50)
    bare = Summaries.load(Summaries(("a",), np.array([5])).save(tmp_path / "bare"))
    assert bare.ids == ("a",)
    assert not bare.has("tokens")
    assert not bare.has("sentence")


def test_numbers_beyond_float16_are_refused_and_the_old_file_stays(bank, path):
    before = path.read_bytes()
    with pytest.raises(BankError, match="1e\\+06, is too large for float16"):
        replace(bank, means=np.full((3, 6), 1e6, np.float32)).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BankError, match=r"nowhere\.safetensors: there is no such summaries file"):
        Summaries.load(tmp_path / "nowhere.safetensors")


def test_a_cut_anywhere_is_found(path, tmp_path):
    data = path.read_bytes()
    damaged = tmp_path / "cut.safetensors"
    for size in [0, 1, 7, 8, 9, *range(20, len(data), 37), len(data) - 1]:
        damaged.write_bytes(data[:size])
        with pytest.raises(BankError, match=r"cut\.safetensors"):
            Summaries.load(damaged)


def test_a_changed_byte_never_ends_in_another_error(path, tmp_path):
    """Damage in the numbers may go unseen here (the manifest has the hash); it must not crash, nor load as NaN."""
    data = path.read_bytes()
    damaged = tmp_path / "bit.safetensors"
    refused = 0
    for place in range(0, len(data), 3):
        damaged.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            loaded = Summaries.load(damaged)
        except BankError:
            refused += 1
        else:
            assert np.isfinite(loaded.means).all()
            assert (loaded.token_counts.counts > 0).all()
    assert refused > len(data) / 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"", "empty"),
    ],
)
def test_what_is_no_safetensors_file_is_recognised(content, message, tmp_path):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(BankError, match=message):
        Summaries.load(tmp_path / "s")


def test_another_safetensors_file_is_refused(tmp_path):
    save_file({"lora_A": np.zeros(2, np.float32)}, tmp_path / "s")
    with pytest.raises(BankError, match="no summaries file of lorameta"):
        Summaries.load(tmp_path / "s")


def rewrite(path: Path, *, tensors: dict | None = None, header: dict | None = None, drop: str | None = None) -> Path:
    """The file with some tensors or entries of the header replaced, as a careless program might have written it."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        entries = json.loads(file.metadata()["lorameta"])
    kept = {**load_file(path), **(tensors or {})}
    kept.pop(drop, None)
    entries |= header or {}
    entries.pop(drop, None)
    save_file(kept, path, {"lorameta": json.dumps(entries)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": {"format": 2}}, "reads format 1"),
        ({"header": {"ids": ["a", "b"]}}, "does not fit 2 datasets"),
        ({"header": {"ids": ["a", "a", "b"]}}, "a: occurs 2 times"),
        ({"header": {"ids": "abc"}}, "not a list of texts"),
        ({"header": {"tokenizer_hash": 5}}, "tokenizer_hash is not a text"),
        ({"header": {"vocabulary_size": 10}}, "beyond the vocabulary of 10"),
        ({"header": {"vocabulary_size": 10**12}}, "cannot be"),
        ({"header": {"vocabulary_size": "many"}}, "cannot be"),
        ({"drop": "rows"}, "'rows' is missing"),
        ({"drop": "ids"}, "'ids' is missing"),
        ({"drop": "token_indptr"}, "'token_indptr' is missing"),
        ({"tensors": {"token_indptr": np.array([0, 5, 3, 40])}}, "token_indptr"),
        ({"tensors": {"token_counts": np.ones(2, np.uint16)}}, "do not match"),
        ({"tensors": {"token_indices": np.arange(2, dtype=np.uint16)}}, "token_indptr does not fit"),
        ({"tensors": {"samples": np.ones((2, 6), np.float16)}}, "sample_indptr does not fit"),
        ({"tensors": {"samples": np.ones(6, np.float16)}}, "samples have 1 axes"),
        ({"tensors": {"means": np.full((3, 6), np.nan, np.float16)}}, "means is not finite"),
        ({"tensors": {"rows": np.ones(3, np.float32)}}, "rows: is float32"),
    ],
)
def test_contradictions_are_named(path, change, message):
    with pytest.raises(BankError, match=r"summaries\.safetensors") as caught:
        Summaries.load(rewrite(path, **change))
    assert message in str(caught.value)


def test_token_ids_out_of_order_are_refused(path):
    indices = load_file(path)["token_indices"]
    with pytest.raises(BankError, match="out of order"):
        Summaries.load(rewrite(path, tensors={"token_indices": np.ascontiguousarray(indices[::-1])}))


def test_a_dataset_with_one_row_can_be_stored(tmp_path):
    one = DatasetSummary(
        1, None, np.ones(4, np.float32), np.zeros((2, 4), np.float32), 0.0, np.ones((1, 4), np.float32)
    )
    loaded = Summaries.load(Summaries.from_list(["one"], [one]).save(tmp_path / "s"))
    assert loaded["one"].sample.shape == (1, 4)
    assert loaded["one"].residual_variance == 0.0
