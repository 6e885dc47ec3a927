"""A bank's prompt template: bare inputs and whole prompts come to the same, wherever the bank meets rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lorameta import AdapterBank, generate_adapter
from lorameta.adapter import Adapter
from lorameta.adapter.card import card
from lorameta.base_model.templates import ChatTemplate, rendered, resolved
from lorameta.data import Example, load_examples
from lorameta.errors import BankError, UsageError
from tests.conftest import TASKS, task_rows

CHAT = "<s>user\n{input}\n<s>assistant\n"
BARE = [{"input": f"the {word} in the field", "output": "yes"} for word in ("dog", "cat", "cow", "duck")]
WHOLE = [{**row, "input": CHAT.replace("{input}", row["input"])} for row in BARE]


@pytest.fixture
def chat_bank(tiny_bank, tmp_path) -> Path:
    """The miniature bank with a prompt template in its manifest."""
    bank = Path(shutil.copytree(tiny_bank, tmp_path / "bank"))
    content = json.loads((bank / "bank.json").read_text())
    (bank / "bank.json").write_text(json.dumps({**content, "prompt_template": CHAT}))
    return bank


def test_rows_are_rendered_once_however_often_it_is_asked():
    rows, whole = load_examples(BARE), load_examples(WHOLE)
    assert rendered(CHAT, rows) == whole
    assert rendered(CHAT, whole) == whole
    assert rendered("", rows) == rows
    assert rendered(CHAT, [Example("x", ("a", "b"))])[0].outputs == ("a", "b")


@pytest.mark.parametrize("template", ["no place", "{input} and {input}", "{inputs}"])
def test_a_template_without_one_place_for_the_input_is_refused(template, chat_bank):
    with pytest.raises(UsageError, match="must hold"):
        rendered(template, [])
    content = json.loads((chat_bank / "bank.json").read_text())
    (chat_bank / "bank.json").write_text(json.dumps({**content, "prompt_template": template}))
    with pytest.raises(BankError, match=r"prompt_template.*with \{input\} once"):
        AdapterBank.open(chat_bank)


def test_a_bank_compares_bare_inputs_as_its_prompts(tiny_bank, chat_bank, tmp_path):
    bare, whole = generate_adapter(BARE, bank=chat_bank), generate_adapter(WHOLE, bank=tiny_bank)
    plain = generate_adapter(BARE, bank=tiny_bank)
    assert bare.weights == whole.weights != plain.weights
    assert bare.report["distances"] == whole.report["distances"]
    assert bare.report["prompt_template"] == CHAT
    assert "prompt_template" not in whole.report
    again = Adapter.from_pretrained(bare.save_pretrained(tmp_path / "out"))
    assert again.report["prompt_template"] == CHAT
    line = next(line for line in card(again).splitlines() if line.startswith("prompt = "))
    assert eval(line.removeprefix("prompt = ").replace("YOUR INPUT", "the dog")) == CHAT.replace("{input}", "the dog")
    assert not any(line.startswith("prompt = ") for line in card(plain).splitlines())


def test_the_manifest_says_it_only_where_there_is_one(tiny_bank, chat_bank):
    assert AdapterBank.open(chat_bank).manifest.as_dict()["prompt_template"] == CHAT
    assert "prompt_template" not in AdapterBank.open(tiny_bank).manifest.as_dict()


def test_refinement_and_evaluation_see_the_prompts_of_the_bank(tiny_bank, chat_bank, lorameta, tmp_path):
    pytest.importorskip("peft")
    from lorameta.training import refine

    settings = {"steps": 2, "precision": "float32", "threads": 1, "learning_rate": 1e-2}
    found = []
    for bank, rows in ((chat_bank, BARE), (tiny_bank, WHOLE)):
        done = refine(generate_adapter(rows, bank=bank), rows, settings=settings)
        file = tmp_path / f"{len(found)}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        scores = lorameta("evaluate", file, "--bank", bank, "--json").json["scores"]
        found.append((done, scores["base"]))
    (first, base), (second, other) = found
    assert base == other
    for name, pair in first.modules.items():
        np.testing.assert_array_equal(pair.B, second.modules[name].B)


def test_bank_train_learns_and_keeps_the_prompts(tiny_bank, tmp_path):
    pytest.importorskip("peft")
    from lorameta.bank_builder.train import train_bank
    from lorameta.training import LoraTraining

    settings = LoraTraining(rank=2, targets=("q_proj",), learning_rate=1e-2, epochs=1, dtype="bfloat16")
    banks = []
    for name, template in (("bare", CHAT), ("whole", "")):
        (tmp_path / name).mkdir()
        task = next(iter(TASKS))
        around = "{input}" if template else CHAT
        prompts = [{**row, "input": around.replace("{input}", row["input"])} for row in task_rows(task)]
        (tmp_path / name / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
        made = train_bank(
            tmp_path / name, tiny_bank / "base", tmp_path / f"{name}-bank", settings=settings, jobs=1, score_rows=0,
            keep_all=True, prompt_template=template,
        )  # fmt: skip
        banks.append(AdapterBank.open(made.bank))
    bare, whole = banks
    assert (bare.prompt_template, whole.prompt_template) == (CHAT, "")
    assert {record.sha256 for record in bare.records.values()} == {record.sha256 for record in whole.records.values()}
    assert (bare.summaries.token_counts[0] == whole.summaries.token_counts[0]).all()


def test_the_chat_template_of_a_base_becomes_a_text(tiny_bank, tmp_path):
    transformers = pytest.importorskip("transformers")
    base = Path(shutil.copytree(tiny_bank / "base", tmp_path / "base"))
    with pytest.raises(UsageError, match="no chat template"):
        resolved("chat", base)
    turns = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    (base / "chat_template.jinja").write_text("<s>" + turns + "{% if add_generation_prompt %}[assistant]{% endif %}")
    template = resolved("chat", base)
    assert template == "[user]{input}\n[assistant]"  # the tokenizer puts <s> in front of any text by itself
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    message = [{"role": "user", "content": "Hello there"}]
    ids = tokenizer.apply_chat_template(message, add_generation_prompt=True)
    ids = ids["input_ids"] if hasattr(ids, "keys") else ids
    assert tokenizer(rendered(template, [Example("Hello there")])[0].input)["input_ids"] == ids
    tokenizer.chat_template = "{{ messages[0].content | upper }}"
    with pytest.raises(UsageError, match="cannot be used"):
        ChatTemplate(tokenizer, "b").around()
    assert resolved("Q: {input}", "no base is read") == "Q: {input}"
