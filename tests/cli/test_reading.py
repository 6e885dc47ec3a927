"""Every verb that reads rows says what it made of their columns, and takes the options on rows."""

from __future__ import annotations

import json

import pytest


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
