"""Writing a bank: the same parts give the same bytes, and what does not fit is refused before anything is written."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.bank import AdapterBank, BaseRecord, write_bank
from lorameta.errors import BankError, LorametaError
from tests.bank.parts import IDS, WEIGHTS, parts_of, record_of, summaries_file, summaries_of
from tests.peft_helpers import Q, random_factors, write_peft


def test_same_parts_same_bytes(tmp_path):
    one, two = parts_of(tmp_path / "one"), parts_of(tmp_path / "two", ids=IDS)
    two["records"] = two["records"][::-1]
    two["summaries"] = two["summaries"].select(IDS[::-1])
    write_bank(tmp_path / "one", **one)
    for _ in range(2):  # again, over itself
        write_bank(tmp_path / "two", **two)
    for file in ("bank.json", summaries_file(tmp_path / "one").name):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("said", ["our-base", "base", "../../base", "", None, "mistralai/Mistral-7B", "/some/base"])
def test_adapters_of_another_base_are_refused(tmp_path, said):
    parts = parts_of(tmp_path, base_model_name_or_path=said)
    if said not in ("mistralai/Mistral-7B", "/some/base"):
        write_bank(tmp_path, **parts)
        assert AdapterBank.open(tmp_path)["alpha"].base_model == str(tmp_path.resolve() / "base")
    else:
        with pytest.raises(BankError) as caught:
            write_bank(tmp_path, **parts)
        assert str(caught.value).count("says that it was trained on") == 4
        assert not (tmp_path / "bank.json").exists()


def test_another_revision_is_refused(tmp_path):
    parts = parts_of(tmp_path, base_model_name_or_path="o/b", revision="old")
    parts["base"] = BaseRecord("o/b", revision="new")
    with pytest.raises(BankError, match="revision old, the bank is of new"):
        write_bank(tmp_path, **parts)


def test_a_bank_that_does_not_fit_is_not_written(tmp_path):
    parts = parts_of(tmp_path)
    bad = random_factors(9)
    bad[Q][1][0, 0] = np.inf
    write_peft(tmp_path / "adapters" / "alpha", bad, base_model_name_or_path="our-base")
    (tmp_path / "adapters" / "beta" / WEIGHTS).write_bytes(b"")
    parts["records"] = [
        record_of("alpha"),
        record_of("beta"),
        record_of("delta", rank=8),
        record_of("gamma", path="../x"),
    ]
    with pytest.raises(BankError) as caught:
        write_bank(tmp_path, **parts)
    for named in ("alpha: ", "NaN or infinite", "beta: ", "is empty", "delta: rank is 3 by the files and 8",
                  "gamma: the path '../x' leads out of the bank"):  # fmt: skip
        assert named in str(caught.value), named
    assert not (tmp_path / "bank.json").exists()
    assert not list(tmp_path.glob("summaries*"))


def test_summaries_records_and_base_must_agree(tmp_path):
    parts = parts_of(tmp_path)
    parts["summaries"] = summaries_of(["alpha", "beta", "delta", "zeta"])
    parts["base"] = BaseRecord("base", name="our-base", tokenizer_hash="other")
    with pytest.raises(BankError) as caught:
        write_bank(tmp_path, **parts)
    for named in ("the summaries lack gamma", "the summaries have zeta", "another tokenizer"):
        assert named in str(caught.value), named
    parts["base"] = BaseRecord("bsae", name="our-base")
    with pytest.raises(BankError, match="no directory bsae"):
        write_bank(tmp_path, **parts)
    good = parts_of(tmp_path / "other")
    with pytest.raises(BankError, match="cannot be JSON"):
        write_bank(tmp_path / "other", **{**good, "recipe": {"loss": float("nan")}})
    with pytest.raises(BankError, match=r"left_out\[0\]\.reason is missing"):
        write_bank(tmp_path / "other", **{**good, "left_out": [{"id": "x"}]})
    assert sorted(path.name for path in (tmp_path / "other").glob("[!.]*")) == ["adapters", "base"]


def test_a_crash_while_writing_leaves_the_old_manifest(root, monkeypatch):
    from lorameta.files import atomic

    before = (root / "bank.json").read_bytes()
    summaries = summaries_of(IDS)
    records = [record_of(name, task="other") for name in IDS]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(
        LorametaError, match=r"No space left on device; make room on the disk\. What was there is unchanged"
    ):
        write_bank(root, name="new", base=BaseRecord("base", name="our-base"), summaries=summaries, records=records,
                   left_out=[])  # fmt: skip
    monkeypatch.undo()
    assert (root / "bank.json").read_bytes() == before
    assert [path.name for path in root.rglob(".*") if path.name != ".lorameta"] == []
    assert AdapterBank.open(root).check().ok
