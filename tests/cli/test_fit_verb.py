"""`lorameta fit`: what it writes, says and refuses."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.adapter import Adapter
from tests.conftest import task_rows


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in task_rows("animal_sound", 24)), encoding="utf-8")
    return path


def test_fit_needs_no_bank(lorameta, tiny_bank, data, tmp_path):
    done = lorameta(
        "fit", data, "--base", tiny_bank / "base", "--where", "block", "--output", tmp_path / "new", "--json"
    )
    assert done.code == 0, done.err
    about = done.json["fit"]
    assert about["kept"]
    assert about["after"]["loss"] < about["before"]["loss"]
    fitted = Adapter.from_pretrained(tmp_path / "new")
    assert list(fitted.modules) == ["model.layers.1.mlp.down_proj"]
    assert fitted.rank == about["rank"]["block"]
    card = (tmp_path / "new" / "README.md").read_text(encoding="utf-8")
    assert "the last down_proj at rank" in card
    assert "no gradient went through it" in card
    again = lorameta("fit", data, "--base", tiny_bank / "base", "--output", tmp_path / "new")
    assert again.code == 2
    assert "--force" in again.err


def test_fit_goes_on_top_of_an_adapter_and_says_what_came_of_it(lorameta, tiny_bank, data, tmp_path):
    given = tiny_bank / "adapters" / "opposite"
    words = ["--base", tiny_bank / "base", "--adapter", given, "--where", "head", "--rank", 3]
    done = lorameta("fit", data, *words, "--output", tmp_path / "new")
    assert done.code == 0, done.err
    assert "the head at rank 3" in done.out
    assert "rows that were held out" in done.out
    before, after = Adapter.from_pretrained(given), Adapter.from_pretrained(tmp_path / "new")
    assert set(after.modules) - set(before.modules) == {"lm_head"}


def test_what_does_no_good_is_not_written(lorameta, tiny_bank, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(json.dumps(row) for row in task_rows("animal_sound", 3)), encoding="utf-8")
    done = lorameta("fit", few, "--base", tiny_bank / "base", "--output", tmp_path / "new")
    assert done.code == 1
    assert "fewer than four different rows" in done.err
    assert not (tmp_path / "new").exists()


def test_a_base_must_be_named(lorameta, data, tmp_path):
    done = lorameta("fit", data, "--output", tmp_path / "new")
    assert done.code == 2
    assert "--base" in done.err
