"""Regular expressions in a tokenizer.json that keep the tokenizers library busy: refused before they are used."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.bank import AdapterBank
from lorameta.base_model.tokenizer_patterns import check_patterns, problem
from lorameta.encoder import TokenEncoder
from lorameta.errors import BankError

# ruff: noqa: E501
LETTERS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
KNOWN = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "cl100k, possessive": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "o200k": rf"{LETTERS}(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "DeepSeek": "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "Kimi": r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}&&[^\p{Han}]]*[\p{Ll}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?",
    "digits from the right": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
    "CLIP": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "SentencePiece": r" {2,}",
}
REFUSED = {
    r"(([a-z0-9_]|\.)+)+[!?]": "repeats what is itself",
    r"(a|a)*[bc]": "a choice",
    r"(?:a?){30}a{30}": "optional",
    r"(?>a+)+b": "repeats what is itself",
    r"[a-z]{0,90}[a-z]{0,90}[a-z]{0,90}[a-z]{0,90}[!?]": "more than 3 long repetitions",
    r".*.*.*(?:.*|x)!": "more than 3 long repetitions",
    r"[a-z]{1,9}+[!?]": "repeats a repetition",
    r"a{1001}": "more than 1000 times",
    r"(?:(?:a{1000}){1000}){1000}": "repetitions written out",
    r"(a+)\1": "refers to a group",
    r"(?<x>a+)\k<x>": "uncommon kind",
    r"(?~abc)": "uncommon kind",
    r"\g<0>a": "refers to a group",
    "(" * 5000: "more than 20 deep",
    "a)b": "closes a group",
    "(a": "does not close",
    "[a": "ends too early",
    "*": "repeats nothing",
    "a" * 30_000: "20,000 characters",
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_tokenizers_have_is_taken(name):
    assert problem(KNOWN[name]) is None


@pytest.mark.parametrize("expression", REFUSED)
def test_what_could_take_for_ever_is_refused(expression):
    start = time.process_time()
    assert REFUSED[expression] in str(problem(expression))
    assert time.process_time() - start < 1


def changed(bank, part, value):
    path = bank / "base" / "tokenizer.json"
    content = json.loads(path.read_bytes())
    content[part] = value
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer"])
def test_a_bank_with_such_a_tokenizer(bank, part):
    split = {"type": "Split", "pattern": {"Regex": r"(([a-z])+)+[!?]"}, "behavior": "Isolated", "invert": False}
    replace = {"type": "Replace", "pattern": {"Regex": r"(([a-z])+)+[!?]"}, "content": ""}
    values = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}, "normalizer": replace}
    path = changed(bank, part, values[part])
    place = AdapterBank.open(bank).tokenizer_path
    for read in (check_patterns, TokenEncoder):
        with pytest.raises(BankError, match=r"tokenizer.json: the regular expression .* repeats what is itself"):
            read(path if read is check_patterns else place)
    pytest.importorskip("transformers")
    from lorameta.base_model.load import load_tokenizer

    with pytest.raises(BankError, match="repeats what is itself"):
        load_tokenizer(place)


@given(st.text(st.sampled_from(r"ab\pL{}()[]|*+?:=!<>,19^-i"), max_size=40))
def test_every_text_gets_an_answer(expression):
    assert problem(expression) is None or isinstance(problem(expression), str)
