"""The HTML reports: their numbers are those of --json, nothing is fetched, nothing of a dataset becomes markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from lorameta.report.html import html_report

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """What is in a page: its numbers, its tags, and whether every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self.numbers.append(dict(attrs)["value"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        yield from numbers(list(value.values()))
        yield float(len(value))
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float):
        yield float(value)


def assert_alone(text: str) -> None:
    """Nothing is fetched, no script is in it, and it is small."""
    page = Page(text)
    assert len(text) < 1_000_000
    assert not {"script", "iframe", "object", "embed", "img"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert str(attributes.get("href", "#")).startswith(("#", "data:,"))
    assert "url(" not in text
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes["role"] == "img"
            for key in str(attributes["aria-labelledby"]).split():
                assert f'id="{key}"' in text


@pytest.mark.parametrize("verb", ["generate", "explain", "evaluate", "finetune", "refine"])
def test_the_numbers_of_the_page_are_those_of_the_json(lorameta, tiny_bank, tiny_rows, tmp_path, verb):
    pytest.importorskip("peft")
    page, mixed = tmp_path / "report.html", tmp_path / "mixed"
    if verb in ("evaluate", "refine"):
        assert lorameta("generate", tiny_rows, "--bank", tiny_bank, "-o", mixed, "--operator", "uniform").code == 0
    words = {
        "generate": ["--bank", tiny_bank, "-o", tmp_path / "a"],
        "explain": ["--bank", tiny_bank],
        "evaluate": ["--bank", tiny_bank, "-a", mixed, "--max-new-tokens", 4, "--predictions", tmp_path / "p.jsonl"],
        "refine": ["--base", tiny_bank / "base", "-o", tmp_path / "a", "--steps", 4, "--threads", 1],
        "finetune": ["--base", tiny_bank / "base", "-o", tmp_path / "a", "--steps", 2, "--rank", 2],
    }[verb]
    data = [mixed] if verb == "refine" else []
    data += ["--data", tiny_rows] if verb in ("finetune", "refine") else [tiny_rows]
    result = lorameta(verb, *data, *words, "--html", page, "--json")
    assert result.code == 0, result.err
    text = page.read_text(encoding="utf-8")
    assert_alone(text)
    known = {round(number, 9) for number in numbers(result.json)}
    found = [float(value) for value in Page(text).numbers]
    assert len(found) > 5
    errors = result.json.get("truncation_error", {"": 0.0}).values()
    assert [value for value in found if round(value, 9) not in known | {round(max(errors), 9)}] == []
    assert ("What each model answered" in text) is (verb != "explain")
    assert ("source of its rows" in text) is (verb != "finetune")
    assert "Peak memory" in text
    assert "Energy in joules" in text
    if verb == "refine":
        assert '<title id="curve-t">Learning curve</title>' in text
        assert len(result.json["refinement"]["history"]) > 1
        assert set(result.json["sources"]) == {"animal_sound", "thing_colour", "number_word", "opposite"}
        assert "## Licences" in (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    if verb == "evaluate":
        lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
        assert lines == result.json["answers"]
        assert len(lines) == 12


def test_nothing_of_a_dataset_becomes_markup():
    score = {"rows": 2, "exact_match": 0.5, "rouge_l": 0.5, "loss": 1.0, "intervals": {"loss": [0.5, 1.5]}}
    report = {
        "data": EVIL, "adapter": EVIL, "base_model": EVIL, "bank": EVIL, "rows": 2, "operator": EVIL, "distance": EVIL,
        "prompt": {"prefix": EVIL, "suffix": EVIL, "one_line": True},
        "read": {"prompt": [EVIL], "answer": [EVIL], "left_out": [EVIL], "labelled": 2},
        "map": {"ids": [EVIL], "points": [[0.0, 0.0], [1.0, 1.0]], "weights": [1.0], "nearest": [EVIL], "share": 1.0},
        "weights": {EVIL: 1.5, f"{EVIL}2": -0.5}, "distances": {EVIL: 0.25, f"{EVIL}2": 0.5},
        "outside": {"outside": False, "nearest": EVIL, "distance": 0.25, "typical": 0.3, "p_value": 0.5},
        "forecast": {EVIL: {"estimate": 0.1, "low": 0.0, "high": 0.2}},
        "auto": {"chose": EVIL, "why": EVIL, "stages": [{"name": EVIL, "loss": 1.0, "kept": True}]},
        "scores": {EVIL: score}, "confusion": {EVIL: {"labels": [EVIL], "columns": [EVIL], "counts": [[2]]}},
        "answers": [{"prompt": EVIL, "references": [EVIL], "models": {EVIL: {"answer": EVIL, "exact_match": 0.0}}}],
        "answers_note": EVIL, "sources": {EVIL: {"source": {"repo": EVIL, "path": EVIL}, "licence": EVIL}},
    }  # fmt: skip
    text = html_report("generate", report)
    assert_alone(text)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_page_stays_small_whatever_is_in_it():
    text, rows = '"<' * 50_000, 3000
    models = {name: {"answer": text, "exact_match": 1.0} for name in ("base", "one", "two")}
    report = {
        "data": "rows", "rows": rows, "prompt": {"prefix": text, "suffix": "", "one_line": True},
        "read": {"prompt": [text], "left_out": [text], "labelled": rows},
        "answers": [{"prompt": text, "references": [text], "models": models}] * rows,
        "weights": {f"adapter-{i}": 1 / 5000 for i in range(5000)},
        "sources": {f"adapter-{i}": {"source": {"repo": "a/b"}, "licence": "MIT"} for i in range(5000)},
    }  # fmt: skip
    page = html_report("evaluate", report)
    assert_alone(page)
    assert f"of {rows} rows" in page
    assert "The first 1000 of 5000 weights" in page


def test_energy_is_told_where_the_machine_counts_it():
    assert '<dd><data value="12.5">12.5</data> (the whole machine' in html_report("generate", {"energy_joules": 12.5})
    assert "Energy in joules</dt><dd>not known: this machine" in html_report("generate", {"energy_joules": None})


def test_a_forecast_is_shown_or_said_to_be_lacking():
    found = {"exact_match": {"estimate": 0.125, "low": 0.0, "high": 0.25}}
    assert 'Expected gain in exact match</dt><dd><data value="0.125">' in html_report("explain", {"forecast": found})
    assert "Expected gain</dt><dd>not known: the bank has no" in html_report("explain", {"forecast": None})
    assert "Expected gain" not in html_report("evaluate", {"rows": 3})


def test_a_page_replaces_a_page_and_nothing_else(lorameta, tiny_bank, tiny_rows, tmp_path):
    mine = tmp_path / "thesis.html"
    mine.write_text("my own text", encoding="utf-8")
    for place in (mine, tmp_path):
        result = lorameta("explain", tiny_rows, "--bank", tiny_bank, "--html", place)
        assert result.code == 2
        assert str(place) in result.err
    assert mine.read_text(encoding="utf-8") == "my own text"
