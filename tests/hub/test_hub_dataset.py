"""A dataset of the Hub in place of a file, against the Hub on loopback: what is read, what is sent, what is said."""

from __future__ import annotations

import json

import pytest

from tests.conftest import task_rows
from tests.hub import repos

pytest.importorskip("datasets")

SEVERAL = {
    "configs": [
        {"config_name": "easy", "data_files": [{"split": "train", "path": "easy/*"}]},
        {"config_name": "hard", "data_files": [{"split": "train", "path": "hard/train*"},
                                               {"split": "dev", "path": "hard/dev*"}]},
    ],
}  # fmt: skip


def generate(lorameta, author, *words: object):
    return lorameta("generate", *words, "-o", "made", "--bank", author.bank, "--operator", "normalized", "--json")


def test_the_rows_make_the_adapter_that_a_file_of_them_makes(lorameta, author, tmp_path):
    name = f"{author.name}/opposite"
    repo = author.dataset("opposite")
    result = generate(lorameta, author, name)
    assert result.code == 0, result.err
    hub = result.json["read"]["hub"]
    assert hub == {"repo": name, "commit": repo.head, "config": "default", "split": "train", "rows": 24}
    card = (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
    assert name in card
    assert repo.head in card
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in task_rows("opposite")), encoding="utf-8")
    own = lorameta("generate", file, "-o", "own", "--bank", author.bank, "--operator", "normalized", "--json")
    assert own.json["distances"] == result.json["distances"]
    weights = "adapter_model.safetensors"
    assert (tmp_path / "own" / weights).read_bytes() == (tmp_path / "made" / weights).read_bytes()


def test_a_revision_is_kept_to_and_no_more_rows_are_taken_than_asked_for(lorameta, author):
    name = f"{author.name}/opposite"
    repo = author.dataset("opposite")
    first = repo.head
    repo.commit({"data/train-00000-of-00001.parquet": repos.parquet(repos.lol_rows(task_rows("thing_colour")))})
    old = lorameta("explain", name, "--data-revision", first, "--max-rows", 7, "--bank", author.bank, "--json")
    assert old.code == 0, old.err
    assert (old.json["read"]["hub"]["commit"], old.json["rows"], old.json["nearest"]) == (first, 7, "opposite")
    new = lorameta("explain", name, "--bank", author.bank, "--json")
    assert (new.json["read"]["hub"]["commit"], new.json["nearest"]) == (repo.head, "thing_colour")
    unknown = lorameta("explain", name, "--data-revision", "f" * 40, "--bank", author.bank)
    assert unknown.code == 2
    assert "revision" in unknown.err


def test_what_must_be_named_is_listed(lorameta, author):
    name = f"{author.name}/several"
    part = repos.parquet(repos.lol_rows(task_rows("opposite")))
    files = dict.fromkeys(("easy/a.parquet", "hard/train.parquet", "hard/dev.parquet"), part)
    author.hub.add("datasets", name, files, SEVERAL)
    explain = ("explain", name, "--bank", author.bank, "--json")
    unnamed = lorameta(*explain)
    assert unnamed.code == 2
    assert "--config" in unnamed.err
    assert "easy, hard" in unnamed.err
    wrong = lorameta(*explain, "--config", "hard", "--split", "test")
    assert "no split 'test'; it has train, dev" in wrong.err
    right = lorameta(*explain, "--config", "hard", "--split", "dev")
    assert right.json["read"]["hub"]["split"] == "dev"
    nowhere = lorameta("explain", f"{author.name}/nowhere", "--bank", author.bank)
    assert nowhere.code == 2
    assert "is not there, or private" in nowhere.err
    offline = lorameta("explain", name, "--offline", "--bank", author.bank)
    assert offline.code == 2
    assert "offline" in offline.err


def test_a_file_stays_a_file(lorameta, author, rows):
    author.forget()
    for data in ("folder/rows.csv", str(rows)):
        lorameta("explain", data, "--bank", author.bank)
    both = lorameta("explain", rows, "--split", "dev", "--bank", author.bank)
    assert both.code == 2
    assert "--split" in both.err
    assert author.hits == []
