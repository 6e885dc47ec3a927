"""`lorameta ask`: the same answers as `evaluate` gives, from a bare input, lines, or a whole prompt."""

from __future__ import annotations

import io
import json

import pytest

from lorameta import Adapter, AdapterBank, generate_adapter
from lorameta.ask import Answerer
from lorameta.errors import printable
from lorameta.evaluate import Scorer
from lorameta.export.ollama import whole_template
from tests.conftest import task_rows


@pytest.fixture(scope="module")
def adapter(tiny_bank, tmp_path_factory):
    rows = [{**row, "input": row["input"].replace("number", "farm")} for row in task_rows("animal_sound", 12)]
    directory = tmp_path_factory.mktemp("adapters") / "mine"
    return generate_adapter(rows, bank=tiny_bank).save_pretrained(directory)


PREFIX, SUFFIX = "Definition: Say what sound the animal makes.\n\nInput: ", "\n\nOutput:"


def test_a_bare_input_gets_the_prompt_and_the_answer_that_evaluate_would_give(lorameta, tiny_bank, adapter):
    bank = AdapterBank.open(tiny_bank)
    scorer = Scorer(bank.base_model, max_new_tokens=12)
    prompt = f"{PREFIX}dog farm 0{SUFFIX}"
    result = lorameta("ask", adapter, "dog farm 0", "--compare", "--json", "--max-new-tokens", 12)
    assert result.code == 0, result.err
    assert result.json["template"] == {"prefix": PREFIX, "suffix": SUFFIX, "one_line": True}
    expected = {"input": "dog farm 0", "prompt": prompt}
    expected |= {"base": scorer.generate([prompt])[0], "answer": scorer.generate([prompt], adapter)[0]}
    assert result.json["answers"] == [expected]
    assert expected["base"] != expected["answer"]
    whole = lorameta("ask", adapter, prompt, "--max-new-tokens", 12)
    assert whole.out.strip() == printable(expected["answer"]).strip()


def test_each_line_of_the_standard_input_is_asked(lorameta, adapter, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("dog\n\n  cat \n"))
    result = lorameta("ask", adapter, "--json", "--max-new-tokens", 2, "--instruction", "Say it.")
    asked = [(one["input"], one["prompt"]) for one in result.json["answers"]]
    assert asked == [(w, f"Definition: Say it.\n\nInput: {w}\n\nOutput:") for w in ("dog", "cat")]
    monkeypatch.setattr("sys.stdin", io.StringIO("dog\ncat\n"))
    text = lorameta("ask", adapter, "--compare", "--max-new-tokens", 2, "--raw").out
    assert text.count("base     ") == text.count("adapter  ") == 2


def test_what_cannot_be_asked_is_refused_with_a_remedy(lorameta, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "no prompt" in lorameta("ask", adapter).err
    assert lorameta("ask", adapter, " ").code == 2
    assert lorameta("ask", adapter, "a", "--raw", "--instruction", "b").code == 2
    assert "256 at most" in lorameta("ask", adapter, "dog " * 400, "--raw").err
    missing = lorameta("ask", tmp_path / "nowhere", "dog")
    assert missing.code == 2
    assert "nowhere" in missing.err


def test_the_template_is_kept_beside_the_adapter_and_damage_to_it_is_harmless(adapter, tmp_path):
    read = Adapter.from_pretrained(adapter)
    assert read.report["prompt"]["prefix"] == PREFIX
    again = read.save_pretrained(tmp_path / "copy")
    assert (again / "lorameta.json").read_bytes() == (adapter / "lorameta.json").read_bytes()
    for content in ("[]", "no JSON", json.dumps({"format": 1, "prompt": {"prefix": 3}})):
        (again / "lorameta.json").write_text(content)
        assert Adapter.from_pretrained(again).report == {}


def test_what_the_bank_puts_around_a_row_is_put_around_a_question(adapter):
    around = "<user>{input}<end>\n<assistant>"
    made = Adapter.from_pretrained(adapter)
    made.report["prompt_template"] = around
    model = Answerer(made)
    row = f"{PREFIX}dog{SUFFIX}"
    for asked in ("dog", row, around.replace("{input}", row)):
        assert model.prompt(asked) == around.replace("{input}", row)
    model.instruction = "Say it."
    assert model.prompt("dog") == around.replace("{input}", "Definition: Say it.\n\nInput: dog\n\nOutput:")
    template = whole_template(made.report)
    assert template.render("dog") == around.replace("{input}", row)
