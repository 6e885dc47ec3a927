"""JSON that is valid and yet no file of its kind: numbers of 400 digits, 100,000 brackets, a key twice."""

from __future__ import annotations

import json
import os
import time

import pytest

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank, check_directory
from lorameta.bank.fitted import fitted
from lorameta.bank_builder.members import remove
from lorameta.encoder.tokens import TokenEncoder, tokenizer_hash
from lorameta.errors import BankError, LorametaError
from lorameta.files import json_text
from tests.attacks.conftest import tamper, tamper_config

HUGE = "1" + "0" * 400
TEXTS = {
    "digits": f'{{"format": 1, "r": {HUGE}, "lora_alpha": {HUGE}, "model": {{"vocab": {HUGE}}}}}',
    "more digits": '{"r": ' + "9" * 100_000 + "}",
    "nested": "[" * 100_000 + "]" * 100_000,
    "nested objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "nested a little": "[" * 100 + "]" * 100,
    "infinite": '{"r": 1e999}',
    "constants": '{"r": NaN}',
    "twice": '{"format": 1, "format": 2}',
    "half a character": '{"name": "\\ud800"}',
    "half a character as key": '{"\\udc00x": 1}',
    "many": "[" + "[]," * 1_200_000 + "[]]",
    "not UTF-8": b"\xff\xfe{}",
    "empty": "",
}


@pytest.mark.parametrize("kind", [kind for kind in TEXTS if kind != "nested a little"] + ["nested a little"])
def test_it_is_refused_everywhere(bank, kind):
    text = TEXTS[kind]
    data = text if isinstance(text, bytes) else text.encode()
    start = time.process_time()
    with pytest.raises(json_text.JsonError):
        json_text.decode(data)
    (bank / "adapters" / "opposite" / "adapter_config.json").write_bytes(data)
    with pytest.raises(BankError, match=r"adapter_config\.json"):
        Adapter.from_pretrained(bank / "adapters" / "opposite")
    (bank / "base" / "tokenizer.json").write_bytes(data)
    with pytest.raises(BankError, match=r"tokenizer\.json"):
        tokenizer_hash(bank / "base")
    with pytest.raises(BankError, match=r"tokenizer\.json"):
        TokenEncoder(bank / "base")
    (bank / "leave_one_out.json").write_bytes(data)
    assert not [one for one in fitted(AdapterBank.open(bank)) if one.valid]
    report = AdapterBank.open(bank).check()
    assert len([problem for problem in report.problems if "adapter_config.json" in problem]) == 1
    (bank / ".lorameta").mkdir()
    (bank / ".lorameta" / "retired.json").write_bytes(data)
    remove(AdapterBank.open(bank), ["opposite"])
    assert "opposite" not in AdapterBank.open(bank).ids
    (bank / "bank.json").write_bytes(data)
    with pytest.raises(BankError, match=r"bank\.json"):
        AdapterBank.open(bank)
    assert not check_directory(bank).ok
    assert time.process_time() - start < 20


def test_json_is_read_as_it_is():
    value = {"a": [1, -2.5, None, True, "é", "\U0001f600", {"b": {}}], "c": 2**62}
    for text in (
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        b"\xef\xbb\xbf" + json.dumps(value).encode(),
    ):
        assert json_text.decode(text) == value


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e308, -1e308, 2**40, "x", True, None, [1], {}, 0.5])
@pytest.mark.parametrize("key", ["r", "lora_alpha", "rank_pattern", "alpha_pattern"])
def test_numbers_out_of_range_are_problems(key, value):
    from lorameta.adapter.peft_config import parse_settings

    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    config[key] = {"q": value} if key.endswith("_pattern") else value
    problems: list[str] = []
    found = parse_settings(config, problems)
    assert (found is None) == bool(problems)
    assert bool(problems) == (value != 0.5 or key in ("r", "rank_pattern"))
    assert all(len(problem) < 300 for problem in problems)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("adapters", 0, "alpha"), 10**400), (("adapters", 0, "rank"), 10**400), (("adapters", 0, "alpha"), 1e308),
        (("encoders", "tokens"), [1]), (("encoders",), [1]), (("base", "model"), "a\0b"), (("base", "name"), "a\nb"),
        (("adapters", 0, "path"), "x" * 300), (("adapters", 0, "path"), "a/" * 40 + "b"),
        (("base", "model"), "x" * 5000), (("adapters", 0, "targets"), "q"),
        (("adapters", 0, "path"), ".hidden"), (("summaries", "file"), ".lorameta/lock"), (("summaries", "bytes"), -1),
        (("adapters", 0, "hub"), {"repo": 1}), (("shards",), [1]), (("left_out",), [1]),
        (("base", "sha256"), {"x\0": "0" * 64}), (("base", "sha256"), {"../x": "0" * 64}), (("format",), 10**400),
    ],
)  # fmt: skip
def test_a_manifest_of_other_types_is_refused(bank, where, value):
    def change(content):
        for key in where[:-1]:
            content = content[key]
        content[where[-1]] = value

    tamper(bank, change)
    with pytest.raises(BankError) as error:
        AdapterBank.open(bank)
    assert "bank.json" in str(error.value)
    assert len(str(error.value)) < 2000
    assert not check_directory(bank).ok


@pytest.mark.parametrize(
    "value", ["x", 5, None, {"test": "x"}, {"test": {"base": 5}}, {"test": {"base": {"loss": "x"}}}]
)
def test_scores_are_free(bank, lorameta, value):
    def change(content):
        content["recipe"] = {"pulled": value, "hub": value}
        content["encoders"]["sentence"]["rows_at_most"] = value
        if isinstance(value, dict):
            content["adapters"][0]["scores"] = value

    tamper(bank, change)
    for words in (["list"], ["info"], ["check"]):
        done = lorameta("bank", *words, bank)
        assert done.code == 0, done.err
    assert "is a bank already" in lorameta("bank", "pull", "a/b", "-o", bank).err


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x1b[31m", "x" * 5000])
def test_names_of_a_base_that_are_none(bank, name):
    tamper_config(bank, "opposite", base_model_name_or_path=name)
    with pytest.raises(BankError, match="no text on one line"):
        Adapter.from_pretrained(bank / "adapters" / "opposite")


def test_an_adapter_in_a_place_that_is_not_utf8_is_saved(bank, tmp_path):
    adapter = Adapter.from_pretrained(bank / "adapters" / "opposite")
    place = tmp_path / os.fsdecode(b"\xff\xfe")
    adapter.save_pretrained(place)
    assert Adapter.from_pretrained(place).rank == adapter.rank
    object.__setattr__(adapter, "base_model", str(place))
    with pytest.raises(LorametaError, match="cannot be written as text"):
        adapter.save_pretrained(tmp_path / "out")


def test_huge_scalings_do_not_break_a_mixture(bank, lorameta, tiny_rows, tmp_path):
    tamper_config(bank, "opposite", lora_alpha=1e308)
    done = lorameta("generate", tiny_rows, "--bank", bank, "-o", tmp_path / "out")
    assert done.code == 2
    assert "lora_alpha" in done.err
