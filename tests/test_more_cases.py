"""More cases of the kinds of `tests/test_cases.py` that were thought of and tried: rows, tables, adapters of others.

What is kept of prompts and answers, each column that is left out with a word, or the message that refuses them.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorameta.adapter import Adapter, LoraPair
from lorameta.data import read_examples
from lorameta.errors import BankError, DataError

# ruff: noqa: E501
U, A = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}
DO = "Definition: Do.\n\nOutput:"

#: Case → row, prompt, answers, and a part of the warnings ("" if there are none).
ROWS: dict[str, tuple[Any, str, tuple[str, ...], str]] = {
    # Answers in a column of nearly a known name.
    "a plural": ({"prompt": "q", "completions": "a"}, "q", (), "--output-column completions"),
    "a capital": ({"input": "q", "Output": "a"}, "q", (), "--output-column Output"),
    "two words": ({"question": "q", "answerKey": "a"}, "q", (), "--output-column answerKey"),
    "SQuAD without an answer": ({"question": "q", "context": "c", "answers": {"text": [], "answer_start": []}}, "c\n\nq", (), ""),
    # Rows that say of their answers what they are worth.
    "KTO, a bad answer": ({"prompt": "q", "completion": "a", "label": False}, "q", ("a",), "2 answers are marked as bad ones"),
    "KTO, in a table": ({"prompt": "q", "completion": "a", "label": "False"}, "q", ("a",), "take these rows out"),
    "KTO, a good answer": ({"prompt": "q", "completion": "a", "label": True}, "q", ("a",), ""),
    # A second column that may be the prompt.
    "instruction and question": ({"instruction": "Do.", "question": "q", "answer": "a"}, DO, ("a",), "--context-column question"),
    "instruction and text": ({"instruction": "Do.", "text": "q", "label": "a"}, DO, ("a",), "--context-column text"),
    "instruction and a conversation": ({"instruction": "Do.", "messages": [U, A]}, "hello", ("hi",), "--context-column instruction"),
    "an Instruction": ({"Instruction": "Do.", "input": "q", "output": "a"}, "q", ("a",), "--context-column Instruction"),
    "a Context": ({"question": "q", "Context": "c", "answer": "a"}, "q", ("a",), "--context-column Context"),
    "the whole row as text": ({"instruction": "Do.", "output": "a", "text": "### Do. ### a"}, DO, ("a",), ""),
    "the prompt again": ({"prompt": "hello", "prompt_id": "1", "messages": [U, A]}, "hello", ("hi",), ""),
    # Conversations.
    "thoughts beside an answer": ({"messages": [U, {**A, "reasoning_content": "why"}]}, "hello", ("hi",), "`reasoning_content` beside what is said"),
    "as JSON": ({"messages": json.dumps([U, A])}, "hello", ("hi",), ""),
    "a call as OpenAI wrote it first": ({"messages": [U, {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}]}, "hello", ('{"name": "f", "arguments": {}}',), ""),
    "roles in capitals": ({"messages": [{"role": "User", "content": "hello"}, {"role": "ASSISTANT", "content": "hi"}]}, "hello", ("hi",), ""),
    "it begins with the assistant": ({"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "Assistant: x\nUser: q\nAssistant:", ("a",), ""),
}  # fmt: skip

#: Case → name of the file, content, prompts with answers, and a part of the warnings.
TABLES: dict[str, tuple[str, bytes, list[tuple[str, tuple[str, ...]]], str]] = {
    "a mark for a missing value": ("a.csv", b"text,label\nx,nan\ny,b\n", [("x", ("nan",)), ("y", ("b",))], "1 answer is 'nan' in `label`"),
    "the mark of a database": ("a.tsv", b"text\tlabel\nx\t\\N\ny\tb\n", [("x", ("\\N",)), ("y", ("b",))], "leave it empty"),
    "negative integers": ("a.csv", b"text,label\nx,-1.0\ny,\n", [("x", ("-1",)), ("y", ())], "integers"),
    "inches": ("a.tsv", b'input\toutput\n5" screen\ta\n"7" big\tb\n', [('5" screen', ("a",)), ('"7" big', ("b",))], "read as text"),
    "old Macintosh lines": ("a.csv", b"input,output\rx,a\ry,b\r", [("x", ("a",)), ("y", ("b",))], ""),
    "an index without a name": ("a.csv", b",input,output\n0,x,a\n1,y,b\n", [("x", ("a",)), ("y", ("b",))], ""),
    "two marks of the byte order": ("a.csv", b"\xef\xbb\xbf" * 2 + b"input,output\nx,a\ny,b\n", [("x", ("a",)), ("y", ("b",))], ""),
    "spaces around names": ("a.csv", b" input, output\nx, a\ny, b\n", [("x", ("a",)), ("y", ("b",))], ""),
    "decimal commas": ("a.csv", b"input;output\n1,5;a\n2,5;b\n", [("1,5", ("a",)), ("2,5", ("b",))], ""),
    "JSON lines by the name of a table": ("a.csv", b'{"input": "x", "output": "a"}\n{"input": "y", "output": "b"}\n', [("x", ("a",)), ("y", ("b",))], ""),
    "conversations in fields": ("a.csv", b"messages\n" + b"".join(b'"%s"\n' % json.dumps([{**U, "content": t}, A]).replace('"', '""').encode() for t in "xy"), [("x", ("hi",)), ("y", ("hi",))], ""),
    "a task of Natural Instructions": ("a.json", json.dumps({"Definition": ["Do."], "Positive Examples": [{"input": "p", "output": "p"}], "Instances": [{"id": t, "input": t, "output": ["a"]} for t in "xy"]}).encode(),
                                       [(f"Definition: Do.\n\nInput: {t}\n\nOutput:", ("a",)) for t in "xy"], ""),
    "line separators in a text": ("a.jsonl", '{"input": "x\u2028y", "output": "a"}\n{"input": "z", "output": "b"}\n'.encode(), [("x\u2028y", ("a",)), ("z", ("b",))], ""),
}  # fmt: skip

#: Case → name of the file, content, and the message.
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "a list as Python writes it": ("a.csv", b"messages\n\"[{'role': 'user', 'content': 'x'}]\"\n", r"begins like a list and is not JSON.*orient='records'"),
    "no header": ("a.csv", b"my parcel,home\nhot pan,kitchen\n", "no input column; columns here: my parcel, home"),
    "premise and hypothesis": ("a.csv", b"premise,hypothesis,label\np,h,1\n", "--input-column 'hypothesis'"),
    "a problem": ("a.jsonl", b'{"problem": "q", "solution": "a"}\n', "--input-column 'problem' --output-column 'solution'"),
    "a quote that is never closed": ("a.csv", b'input,output\n"x,a\ny,b\nz,c\n', "never closed.*--quoting none"),
    "quotes with a backslash": ("a.csv", b'input,output\n"say \\"hi\\" now",a\ny,b\n', "text follows a closing quote"),
    "a comma too many": ("a.csv", b"input,output\nx, and more,a\ny,b\n", "3 fields, the header has 2"),
    "train and test in one": ("a.json", b'{"train": [{"input": "x", "output": "a"}], "test": [{"input": "y", "output": "b"}]}', r"several lists of rows \(train, test\)"),
    "an answer that is true": ("a.jsonl", b'{"question": "q", "passage": "p", "answer": true}\n', "the boolean true; write it as text"),
    "a cut gzip file": ("a.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc", "damaged or cut short"),
}  # fmt: skip


def read(rows: Any) -> tuple[list[tuple[str, tuple[str, ...]]], str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        examples, _ = read_examples(rows, require_output=False)
    said = [
        str(one.message) for one in caught if " rows of " not in str(one.message) or "are equal" not in str(one.message)
    ]
    return [(row.input, row.outputs) for row in examples], " ".join(said)


@pytest.mark.parametrize("case", ROWS)
def test_rows(case):
    row, prompt, answers, warning = ROWS[case]
    found, said = read([row, row])
    assert found == [(prompt, answers)] * 2
    assert warning in said if warning else not said


@pytest.mark.parametrize("case", [name for name, row in ROWS.items() if "-column" in row[3]])
def test_the_option_that_a_warning_names_uses_the_column(case):
    row, prompt, answers, warning = ROWS[case]
    option, column = warning.removeprefix("--").split()
    how = {"context_columns": [column]} if option == "context-column" else {"output_column": column}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = {**row, column: "another"}
        (first, _), report = read_examples([row, other], require_output=False, **how)
    assert (first.input, first.outputs) != (prompt, answers)
    assert column in (*report.prompt, *report.answer)


@pytest.mark.parametrize("case", TABLES)
def test_tables(tmp_path, case):
    name, content, wanted, warning = TABLES[case]
    (tmp_path / name).write_bytes(content)
    found, said = read(tmp_path / name)
    assert found == wanted
    assert warning in said if warning else not said


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_reason(tmp_path, case):
    name, content, message = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){message}"):
        read_examples(tmp_path / name, require_output=False)


WEIGHTS, PREFIX = "adapter_model.safetensors", "base_model.model."


def renamed(old: str, new: str):
    return lambda path: save_file(
        {key.replace(old, new): one for key, one in load_file(path / WEIGHTS).items()}, path / WEIGHTS
    )


def holds(**tensors: tuple[int, ...]):
    return lambda path: save_file(
        {key.replace("__", "."): np.ones(shape, "f4") for key, shape in tensors.items()}, path / WEIGHTS
    )


def becomes(name: str, *, configured: bool = True):
    def change(path: Path) -> None:
        (path / WEIGHTS).rename(path / name)
        if not configured:
            (path / "adapter_config.json").unlink()

    return change


def configured(**more: Any):
    def change(path: Path) -> None:
        config = json.loads((path / "adapter_config.json").read_text())
        (path / "adapter_config.json").write_text(json.dumps(config | more))

    return change


ADAPTERS = {
    "of a compiled model": (renamed(PREFIX, f"{PREFIX}_orig_mod."), r"torch\.compile puts there"),
    "of FSDP": (renamed("self_attn.", "self_attn._fsdp_wrapped_module."), "FSDP puts there"),
    "of activation checkpointing": (renamed("layers.0.", "layers.0._checkpoint_wrapped_module."), "activation checkpointing puts there"),
    "of DistributedDataParallel": (renamed(PREFIX, f"module.{PREFIX}"), "DistributedDataParallel puts there"),
    "without PEFT's prefix": (renamed(PREFIX, ""), r"does not start with 'base_model\.model\.'.*\(and 1 more\)"),
    "of kohya": (holds(lora_unet_x__lora_down__weight=(2, 6), lora_unet_x__lora_up__weight=(5, 2), lora_unet_x__alpha=()), "models of images"),
    "of diffusers": (becomes("pytorch_lora_weights.safetensors", configured=False), "adapter of diffusers"),
    "of llama.cpp": (becomes("lora.gguf"), r"lora\.gguf is llama\.cpp's form"),
    "of LitGPT": (becomes("lit_model.pth.lora"), "is a pickle"),
    "of torchtune": (becomes("adapter_0.pt"), "is a pickle"),
    "of Lightning": (becomes("last.ckpt"), r"last\.ckpt is a pickle"),
    "IA3 in many layers": (holds(**{f"base_model__model__layers__{n}__ia3_l": (5, 1) for n in range(40)}), r"\(and 39 more\)"),
    "PiSSA": (configured(init_lora_weights="pissa"), "changes the base weights"),
    "DoRA": (configured(use_dora=True), "DoRA rescales the base weight"),
    "experts": (configured(target_parameters=["mlp.experts.up"]), "bare parameters"),
}  # fmt: skip


@pytest.mark.parametrize("case", ADAPTERS)
def test_adapters_of_others_are_named_for_what_they_are(tmp_path, case):
    rng = np.random.default_rng(0)
    pair = LoraPair(rng.normal(size=(2, 6)).astype("f4"), rng.normal(size=(5, 2)).astype("f4"), 1.0)
    path = Path(Adapter({"model.layers.0.self_attn.q_proj": pair}, "owner/base").save_pretrained(tmp_path / "adapter"))
    change, message = ADAPTERS[case]
    change(path)
    with pytest.raises(BankError, match=f"(?s){message}") as caught:
        Adapter.from_pretrained(path)
    assert str(caught.value).count("\n  - ") <= 2
