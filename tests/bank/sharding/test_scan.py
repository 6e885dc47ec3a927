"""A stacked bank is checked as its directories were, and damage is blamed on the row that it is in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorameta.bank import AdapterBank, BaseRecord, write_bank
from lorameta.bank.sharding.stack import stack
from tests.bank.parts import make_bank, record_of, summaries_of
from tests.peft_helpers import dense, random_factors


@pytest.fixture
def stacked(tmp_path) -> Path:
    root = make_bank(tmp_path / "bank", ["a", "b", "c", "d"])
    before = AdapterBank.open(root).check()
    stack(root)
    assert before.ok
    return root


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x01
    path.write_bytes(bytes(data))


def test_a_stacked_bank_is_checked_as_the_directories_were(stacked):
    report = AdapterBank.open(stacked).check()
    assert report.problems == report.warnings == []
    assert report.adapters == 4
    assert report.bytes > 4 * AdapterBank.open(stacked).records["a"].bytes * 0.9


def test_norms_of_rows_are_those_of_the_adapters(stacked, monkeypatch):
    seen: dict[str, float] = {}
    from lorameta.bank import check as module

    monkeypatch.setattr(module, "compare_norms", lambda norms, report: seen.update(norms))
    AdapterBank.open(stacked).check()
    for seed, name in enumerate("abcd"):
        expected = np.sqrt(sum((update**2).sum() for update in dense(random_factors(seed)).values()))
        assert seen[name] == pytest.approx(expected, rel=1e-5)


def test_a_flipped_bit_in_a_shard_is_blamed_on_its_row(stacked):
    (path,) = (stacked / "shards").iterdir()
    flip(path, path.stat().st_size - 1)  # the last row of the last tensor
    (problem,) = AdapterBank.open(stacked).check().problems
    assert problem.startswith("d: row ")
    assert "is not what bank.json was written with (SHA-256)" in problem


def test_a_cut_or_missing_shard_is_named(stacked):
    (path,) = (stacked / "shards").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    (problem,) = AdapterBank.open(stacked).check().problems
    assert "is truncated" in problem
    path.unlink()
    (problem,) = AdapterBank.open(stacked).check().problems
    assert "missing" in problem


def test_records_of_a_stacked_bank_can_be_written_again(stacked):
    """`write_bank` with the records of an open bank, as a recipe does that adds to what it made before."""
    bank = AdapterBank.open(stacked)
    manifest = bank.manifest
    write_bank(
        stacked, name="again", base=BaseRecord("base", name="our-base"), summaries=summaries_of("abcd"),
        records=bank.records.values(), encoders=manifest.encoders,
    )  # fmt: skip
    now = AdapterBank.open(stacked)
    assert (now.name, now.records, now.manifest.shards) == ("again", bank.records, manifest.shards)
    assert now.check().ok
    with pytest.raises(Exception, match="is missing"):
        write_bank(
            stacked, name="again", base=BaseRecord("base", name="our-base"), summaries=summaries_of("abcd"),
            records=[record_of(name) for name in "abcd"],
        )  # fmt: skip
