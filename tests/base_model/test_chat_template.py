"""Rows that are conversations get the chat template of the base, wherever a bank or a training meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from lorameta import AdapterBank, Example, generate_adapter, load_examples
from lorameta.adapter import Adapter
from lorameta.ask import Answerer
from lorameta.base_model.load import load_tokenizer
from lorameta.base_model.templates import ChatTemplate, rendered
from lorameta.errors import DataError
from lorameta.training.api import prepared

JINJA = (
    "<s>{% for m in messages %}[{{ m.role }}] {{ m.content }} [/]\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
WORDS = ("dog", "cat", "cow", "duck", "goat", "sheep", "crow", "owl")
SYSTEM = {"role": "system", "content": "Be brief."}


def chats(*, earlier: bool = False, system: bool = False) -> list[dict]:
    """One conversation for each word."""
    before = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}] if earlier else []
    return [
        {"messages": [*([SYSTEM] if system else []), *before, {"role": "user", "content": f"the {word}"},
                      {"role": "assistant", "content": "yes"}]}
        for word in WORDS
    ]  # fmt: skip


@pytest.fixture(scope="module")
def chat_bank(tiny_bank, tmp_path_factory) -> Path:
    """The miniature bank, whose base has a chat template."""
    bank = Path(shutil.copytree(tiny_bank, tmp_path_factory.mktemp("chat") / "bank"))
    (bank / "base" / "chat_template.jinja").write_text(JINJA)
    return bank


@pytest.mark.parametrize("around", ["", "Q: {input}\nA:"])
def test_conversations_get_the_template_of_the_base_and_other_rows_that_of_the_bank(chat_bank, tmp_path, around):
    path = Path(shutil.copytree(chat_bank, tmp_path / "bank"))
    content = json.loads((path / "bank.json").read_text())
    (path / "bank.json").write_text(json.dumps({**content, **({"prompt_template": around} if around else {})}))
    bank, tokenizer = AdapterBank.open(path), load_tokenizer(path / "base")
    rows = [*chats(earlier=True, system=True), {"input": "bare", "output": "no"}]
    seen = bank.prompts(load_examples(rows))
    assert len(rows) > 2
    for row, example in zip(rows[:-1], seen[:-1], strict=True):
        ids = tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, return_dict=True)
        assert tokenizer(example.input)["input_ids"] == ids["input_ids"]
        assert example.input.count("[user]") == 2
    assert seen[-1].input == (around.replace("{input}", "bare") or "bare")
    assert bank.prompts(seen) == seen


def test_without_a_chat_template_conversations_are_plain_text(tiny_bank):
    bank = AdapterBank.open(tiny_bank)
    assert bank.chat_template is None
    assert bank.prompts(load_examples(chats()))[0].input == "the dog"
    asked = []
    rendered("", [Example("the dog")], lambda: asked.append(1))
    assert not asked  # nothing is loaded for rows that are no conversations


def test_mixing_training_and_asking_see_the_same_prompts(chat_bank, tiny_bank, lorameta, tmp_path):
    pytest.importorskip("peft")
    rows = chats(system=True)
    begin = "[system] Be brief. [/]\n[user] the"
    whole = [{"input": f"{begin} {word} [/]\n[assistant]\n", "output": "yes"} for word in WORDS]
    mixed, same = (generate_adapter(one, bank=bank, operator="normalized") for one, bank in
                   ((rows, chat_bank), (whole, tiny_bank)))  # fmt: skip
    assert mixed.report["distances"] == same.report["distances"]
    template = "[system] Be brief. [/]\n[user] {input} [/]\n[assistant]\n"
    assert mixed.report["prompt_template"] == template
    kept = Adapter.from_pretrained(mixed.save_pretrained(tmp_path / "adapter"))
    assert Answerer(kept, base=chat_bank / "base").prompt("the fox") == template.replace("{input}", "the fox")

    settings = {"steps": 1, "threads": 1, "precision": "float32"}
    learned = []
    for dataset, base in ((rows, chat_bank), (whole, tiny_bank)):
        with prepared(dataset, base / "base", settings) as job:
            learned.append({tuple(row.ids) for part in job.rows for row in part})
            assert job.prompt.get("prompt_template", template) == template
    assert learned[0] == learned[1]

    scores = []
    for name, dataset, base in (("chats", rows, chat_bank), ("whole", whole, tiny_bank)):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in dataset))
        scores.append(lorameta("evaluate", file, "--base", base / "base", "--json").json["scores"]["base"])
        scores.append(lorameta("evaluate", file, "--bank", base, "--json").json["scores"]["base"])
    assert scores[0]["loss"] > 0
    assert all(score == scores[0] for score in scores)


class Tokenizer:
    """What a chat template needs of a tokenizer; its template takes no system message, as Mistral's."""

    bos_token = None
    chat_template = "any"

    def apply_chat_template(self, messages, **_):
        if [message["role"] for message in messages] not in (["user"], ["user", "assistant", "user"]):
            raise ValueError("roles must alternate")
        return "".join(f"<{message['content']}>" for message in messages)


def test_a_template_that_takes_no_system_message_gets_it_in_the_first_and_refusals_are_all_listed():
    chat = ChatTemplate.of(Tokenizer(), "b")
    assert chat.render([("System", "brief"), ("User", "dog")]) == "<brief\n\ndog>"
    good, bad = Example("x", ("y",), (("User", "dog"),)), Example("x", ("y",), (("User", "dog"), ("User", "cat")))
    with pytest.raises(DataError, match=r"(?s)row 2: .*roles must alternate.*row 3"):
        rendered("", [good, bad, bad], lambda: chat)
