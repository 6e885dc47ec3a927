"""Adding and removing single adapters."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.bank.sharding.stack import stack
from lorameta.bank_builder import members
from lorameta.bank_builder.members import add, remove
from lorameta.data import load_examples
from lorameta.encoder import Summaries, TokenEncoder
from lorameta.errors import BankError, DataError, UsageError
from tests.bank.editing import SHAPES, make_newcomer, summary_for
from tests.peft_helpers import random_factors, write_peft


@pytest.fixture
def root(tiny_bank, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bank, tmp_path / "bank")).resolve()


@pytest.fixture
def token_bank(root) -> Path:
    """The bank without sentence summaries, so that rows can be summarised without the model."""
    path = root / "summaries.safetensors"
    known = Summaries.load(path)
    sentence = ("means", "covariance_factors", "residual_variances", "samples", "sentence_model")
    replace(known, **dict.fromkeys(sentence)).save(path)
    content = json.loads((root / "bank.json").read_text())
    data = path.read_bytes()
    content["summaries"] = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (root / "bank.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def newcomer(tmp_path) -> Path:
    return make_newcomer(tmp_path, "newcomer", 99)


def test_an_adapter_with_its_rows(token_bank, newcomer, tiny_rows):
    before = AdapterBank.open(token_bank)
    record = add(before, newcomer, data=tiny_rows, family="words", licence="MIT", task="Something")
    bank = AdapterBank.open(token_bank)
    assert (record.id, record.task, record.family, record.licence) == ("newcomer", "Something", "words", "MIT")
    assert bank.records["newcomer"] == record
    assert (record.rows, record.rank, record.alpha) == ({"train": 12}, 4, 8.0)
    examples = load_examples(tiny_rows)
    counts = TokenEncoder(token_bank / "base").encode(examples).token_counts
    np.testing.assert_array_equal(bank.summaries["newcomer"].token_counts, counts)
    for name in before:
        np.testing.assert_array_equal(bank.summaries[name].token_counts, before.summaries[name].token_counts)
        assert bank.records[name] == before.records[name]
    assert bank.check().problems == []
    assert bank.content_hash != before.content_hash


def test_the_others_are_not_read_again(root, newcomer, monkeypatch):
    seen = []
    scan = members.scan_directory
    monkeypatch.setattr(members, "scan_directory", lambda path, notes: seen.append(path) or scan(path, notes))
    monkeypatch.setattr(AdapterBank, "__getitem__", None)
    for name in ("animal_sound", "opposite"):  # even unreadable ones are no hindrance
        path = root / "adapters" / name / "adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    add(AdapterBank.open(root), newcomer, summary=summary_for(root, "newcomer"))
    assert [path.name for path in seen] == ["newcomer", "adapter"]


def test_an_id_that_is_taken(root, newcomer):
    bank = AdapterBank.open(root)
    mine = summary_for(root, "opposite")
    with pytest.raises(UsageError, match=r"'opposite' already; choose another id with --id, or .*--replace"):
        add(bank, newcomer, id="opposite", summary=mine)
    with pytest.raises(UsageError, match="'opposite' already"):
        add(bank, newcomer, id="OPPOSITE", summary=mine)
    with pytest.raises(UsageError, match="no adapter 'newcomer' to replace"):
        add(bank, newcomer, summary=mine, replacing=True)
    record = add(bank, newcomer, id="opposite", summary=mine, replacing=True)
    now = AdapterBank.open(root)
    assert now.records["opposite"].sha256 == record.sha256 != bank.records["opposite"].sha256
    assert bank["opposite"].norm() != now["opposite"].norm()  # who has it open still reads the old one
    assert now.check().problems == []
    assert len(now) == 4


def test_who_was_left_out_comes_in(root, newcomer):
    assert AdapterBank.open(root).manifest.left_out[0]["id"] == "riddle"
    add(AdapterBank.open(root), newcomer, id="riddle", summary=summary_for(root, "riddle"))
    assert AdapterBank.open(root).manifest.left_out == ()


def test_what_is_refused(root, newcomer, tmp_path, tiny_rows):
    bank = AdapterBank.open(root)
    mine = summary_for(root, "newcomer")
    before = (root / "bank.json").read_bytes()
    shape = dict(SHAPES, **{"model.layers.0.self_attn.q_proj": (32, 30)})
    odd = write_peft(tmp_path / "odd", random_factors(0, 4, shape), alpha=8, base_model_name_or_path="other/base")
    broken = write_peft(tmp_path / "broken", random_factors(0, 4, SHAPES), use_dora=True)
    (broken / "adapter_model.safetensors").write_bytes(b"")
    for directory, options, error, named in (
        (odd, {"summary": mine}, BankError, ("trained on 'other/base'", "is (32, 30), that of the others (32, 32)")),
        (broken, {"summary": mine}, BankError, ("use_dora", "is empty")),
        (tmp_path / "nowhere", {"summary": mine}, UsageError, ("no directory",)),
        (newcomer, {}, UsageError, ("--data", "--summary")),
        (newcomer, {"summary": mine, "data": tiny_rows}, UsageError, ("--data", "--summary")),
        (newcomer, {"summary": mine, "id": "../x"}, UsageError, ("no safe file name", "--id")),
        (newcomer, {"summary": replace(mine, tokenizer_hash="0" * 64)}, BankError, ("another tokenizer",)),
        (newcomer, {"summary": replace(mine, means=None, samples=None)}, BankError, ("newcomer: has no means",)),
        (newcomer, {"summary": bank.summaries}, BankError, ("the summaries lack newcomer",)),
        (newcomer, {"data": tmp_path / "none.jsonl"}, DataError, ("none.jsonl",)),
    ):
        with pytest.raises(error) as caught:
            add(bank, directory, **options)
        for text in named:
            assert text in str(caught.value), (text, str(caught.value))
        assert (root / "bank.json").read_bytes() == before
    assert sorted(path.name for path in (root / "adapters").iterdir()) == sorted(bank.ids)


def test_adding_to_and_removing_from_a_stacked_bank(root, newcomer):
    stack(root)
    (shard,) = AdapterBank.open(root).manifest.shards
    add(AdapterBank.open(root), newcomer, summary=summary_for(root, "newcomer"))
    bank = AdapterBank.open(root)
    assert bank.check().problems == []
    assert [name for name in bank if not bank.records[name].shard] == ["newcomer"]
    assert remove(bank, ["opposite"]) == (shard,)
    now = AdapterBank.open(root)
    assert now.check().problems == []
    assert now["animal_sound"].norm() == bank["animal_sound"].norm()
    assert remove(now, ["animal_sound", "number_word", "thing_colour"]) == ()
    last = AdapterBank.open(root)
    assert (last.ids, last.manifest.shards) == (("newcomer",), {})
    assert last.check().problems == []
