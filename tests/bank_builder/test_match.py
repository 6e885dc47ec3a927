"""Which dataset belongs to which adapter: by name or by an index; all that does not match is listed at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder.local import build
from lorameta.errors import BankError
from tests.bank_builder.building import options
from tests.conftest import TASKS
from tests.peft_helpers import write_peft

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def test_what_does_not_match_is_listed_all_at_once(parts, tmp_path):
    (parts / "datasets" / "opposite.jsonl").rename(parts / "datasets" / "oposite.jsonl")
    shutil.copy(parts / "datasets" / "number_word.jsonl", parts / "datasets" / "number_word.json")
    shutil.copytree(parts / "adapters" / "opposite", parts / "adapters" / "bad name")
    with pytest.raises(BankError) as caught:
        build(tmp_path / "bank", **options(parts))
    for named in ("opposite: has no dataset", "did you mean oposite", "number_word: has several datasets",
                  "'bad name' is no safe file name"):  # fmt: skip
        assert named in str(caught.value), named


def test_an_index_names_what_does_not_match(parts, tmp_path):
    (parts / "adapters" / "opposite").rename(parts / "adapters" / "Run 7 (final)")
    (parts / "datasets" / "opposite.jsonl").rename(parts / "datasets" / "rows7.jsonl")
    (parts / "index.csv").write_text(
        "id,adapter,dataset,task,family,licence,source\n"
        'opposite,Run 7 (final),rows7.jsonl,Opposites,words,MIT,"{""repo"": ""o/r""}"\n'
        "animal_sound,,,,facts,CC0-1.0,a book\n"
    )
    build(tmp_path / "bank", **options(parts, index=parts / "index.csv"))
    records = AdapterBank.open(tmp_path / "bank").records
    assert set(records) == set(TASKS)
    one, other = records["opposite"], records["animal_sound"]
    assert (one.task, one.family, one.licence, one.source) == ("Opposites", "words", "MIT", {"repo": "o/r"})
    assert (other.task, other.family, other.source) == ("animal_sound", "facts", {"name": "a book"})
    (parts / "bad.jsonl").write_text('{"id": "x", "colour": 1}\n{"task": "y"}\n{"id": "x"}\n')
    with pytest.raises(Exception, match="unknown column colour") as caught:
        build(tmp_path / "other", **options(parts, index=parts / "bad.jsonl"))
    assert "has no id" in str(caught.value)
    assert "'x' is there twice" in str(caught.value)


def spoil(parts: Path) -> None:
    """Two adapters and one dataset that no bank can have."""
    (parts / "adapters" / "opposite" / WEIGHTS).write_bytes(b"<html>")
    path = parts / "adapters" / "number_word" / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_dora": True, "modules_to_save": ["x"]}))


def test_refused_adapters_are_listed_all_at_once_or_left_out(parts, tmp_path):
    spoil(parts)
    with pytest.raises(BankError) as caught:
        build(tmp_path / "bank", **options(parts))
    for named in ("opposite: ", "HTML page", "number_word: ", "use_dora", "modules_to_save", "--skip-bad"):
        assert named in str(caught.value), named
    assert not (tmp_path / "bank" / "bank.json").exists()
    (parts / "datasets" / "animal_sound.jsonl").write_text('{"input": 1\n')
    built = build(tmp_path / "bank", **options(parts, skip_bad=True))
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.ids == ("thing_colour",)
    assert [entry["id"] for entry in built.left_out] == ["animal_sound", "number_word", "opposite"]
    assert built.left_out == bank.manifest.left_out
    assert "HTML page" in built.left_out[2]["reason"]
    assert bank.check().ok


def test_adapters_of_other_shapes_are_refused(parts, tmp_path):
    factors = {"model.layers.0.self_attn.q_proj": (np.ones((4, 30), np.float32), np.ones((32, 4), np.float32))}
    write_peft(parts / "adapters" / "opposite", factors, base_model_name_or_path=str(parts / "base"))
    with pytest.raises(BankError, match=r"opposite: .*q_proj is \(32, 30\), that of the others \(32, 32\)"):
        build(tmp_path / "bank", **options(parts))
