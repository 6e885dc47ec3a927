"""Every verb that reads rows says what it made of their columns, and takes the options on rows."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.bank.editing import make_newcomer
from tests.fuzz.bank import write


@pytest.fixture
def files(tmp_path):
    for name, rows in {"a": range(6), "b": range(6, 12)}.items():
        lines = [
            {"utterance": f"word {n}", "passage": "Say it.", "sentiment": "good" if n % 2 else "bad"} for n in rows
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]


def test_explain_reads_several_files_and_says_what_it_left_out(lorameta, tiny_bank, files):
    result = lorameta("explain", *files, "--bank", tiny_bank, "--input-column", "utterance", "--json")
    report = json.loads(result.out)["read"]
    assert (report["rows"], report["labelled"], report["prompt"]) == (12, 0, ["utterance"])
    assert report["left_out"] == ["passage", "sentiment"]
    assert "Read 12 rows of 2 files: prompt from utterance, no answers; left out: passage and sentiment." in result.err
    assert "--output-column sentiment uses it" in result.err
    assert "--context-column passage uses it" in result.err


def test_the_options_are_used_and_said_again(lorameta, tiny_bank, files):
    options = ["--input-column", "utterance", "--output-column", "sentiment", "--context-column", "passage"]
    result = lorameta("explain", files[0].parent, "--bank", tiny_bank, *options)
    assert "12 rows" in result.err
    assert "prompt from utterance and passage, answer from sentiment." in result.err
    assert " ".join(options) in result.out
    assert "looks like" not in result.err


def test_generate_and_evaluate(lorameta, tiny_bank, files, tmp_path):
    options = ["--input-column", "utterance", "--output-column", "sentiment", "--ignore-column", "passage"]
    out = tmp_path / "out"
    made = lorameta("generate", files[0], "-o", out, "--bank", tiny_bank, *options, "--json")
    assert json.loads(made.out)["read"]["answer"] == ["sentiment"]
    assert "Read 6 rows" in made.err


@pytest.fixture
def table(tmp_path):
    """Rows of a bank's own task in a table that nobody could read without being told how."""
    folder = tmp_path / "rows"
    folder.mkdir()
    lines = [f"Say it.|word {n}|{'good' if n % 2 else 'bad'}|{n}" for n in range(40)]
    (folder / "newcomer.csv").write_text("\n".join(["passage|utterance|sentiment|id", *lines]) + "\n")
    return folder / "newcomer.csv"


HOW = ["--input-column", "utterance", "--output-column", "sentiment", "--context-column", "passage"]
HOW += ["--delimiter", "pipe", "--quoting", "none", "--encoding", "latin-1"]
LINE = "prompt from utterance and passage, answer from sentiment; left out: id"


def test_bank_add_says_what_it_read_and_takes_the_options(lorameta, table, tmp_path):
    root = write(tmp_path / "bank")
    directory = shutil.copytree(root / "adapters" / "moo", tmp_path / "newcomer")
    (directory / "lorameta.json").write_text('{"format": 1, "prompt_template": "Say: {input}"}')
    result = lorameta("bank", "add", root, directory, "--data", table, *HOW, "--json")
    assert result.code == 0, result.err
    assert LINE in result.err
    assert result.json["read"]["rows"] == 40
    kept = root / result.json["path"] / "lorameta.json"
    assert kept.read_bytes() == (directory / "lorameta.json").read_bytes()


def test_bank_build_says_what_it_read_and_takes_the_options(lorameta, tiny_bank, table, tmp_path):
    make_newcomer(tmp_path / "adapters", "newcomer", 9)
    words = ["bank", "build", tmp_path / "new", "--adapters", tmp_path / "adapters", "--datasets", table.parent]
    result = lorameta(*words, "--base", tiny_bank / "base", "--copy-base", "--base-name", "base", *HOW)
    assert result.code == 0, result.err
    assert LINE in result.out


def test_bank_train_says_what_it_read_and_takes_the_options(lorameta, tiny_bank, table, tmp_path):
    pytest.importorskip("torch")
    words = ["bank", "train", table.parent, "--base", tiny_bank / "base", "-o", tmp_path / "new", "--dry-run"]
    result = lorameta(*words, *HOW)
    assert result.code == 0, result.err
    assert LINE in result.out
    assert LINE in lorameta(*words, *HOW, "--json").json["plan"]["read"][0]


def test_fit_says_what_it_read_and_takes_the_options(lorameta, tiny_bank, table, tmp_path):
    pytest.importorskip("torch")
    result = lorameta("fit", table, "--base", tiny_bank / "base", "-o", tmp_path / "new", "--where", "block", *HOW)
    assert LINE in result.err
