"""Regular expressions in a configuration that keep Python's matcher busy for ever: refused, or stopped in seconds."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorameta.adapter import Adapter, patterns
from lorameta.adapter.peft_config import parse_settings
from lorameta.bank import AdapterBank
from lorameta.errors import BankError
from tests.attacks.conftest import tamper_config

CATASTROPHES = [
    r"(([a-z0-9_]|\.)+)+!",
    r"(.*)*x(.*)*y(.*)*z!",
    r"(a|a)*" * 40 + "!",
    r"(?:(?:.*){1,30}){1,30}q_projX",
    r"((\w+\.?)+)+\d{9}",
]
REFUSED = [
    "(?:(?:a{1000}){1000}){1000}",
    "(?i)q_proj",
    "(?P<x>q)(?P=x)",
    r"(q)\1",
    r"[\x00-\U0010ffff]",
    "(" * 5000,
    "q" * 30_000,
    "*",
    "q_proj\n",
    "ＱＰ",
]


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("pattern", CATASTROPHES)
def test_matching_ends(bank, key, pattern):
    tamper_config(bank, "opposite", **{key: {pattern: 4} if key.endswith("_pattern") else pattern})
    start = time.process_time()
    try:
        AdapterBank.open(bank)["opposite"]
    except BankError as error:
        assert len(str(error)) < 5000  # noqa: PT017 - it may be found out at once that nothing matches
    else:
        assert key != "target_modules"
    assert time.process_time() - start < 6


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "rank_pattern", "layers_pattern"])
@pytest.mark.parametrize("pattern", REFUSED)
def test_what_no_names_need_is_refused(bank, key, pattern):
    value = {pattern: 4} if key == "rank_pattern" else [pattern] if key == "layers_pattern" else pattern
    tamper_config(bank, "opposite", **{key: value})
    start = time.process_time()
    with pytest.raises(BankError, match="no regular expression of module names"):
        AdapterBank.open(bank)["opposite"]
    assert time.process_time() - start < 1


@pytest.mark.parametrize("value", [5, ["(layers)"], [5], {"a": 1}, [[]], "(layers)", None, [], "layers"])
def test_layers_patterns_of_other_types(value):
    problems: list[str] = []
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "layers_pattern": value, "target_modules": ["q_proj"]}
    found = parse_settings(config | {"layers_to_transform": [0]}, problems)
    assert (found is None) == bool(problems) == (value not in (None, [], "layers"))
    if found is not None:
        assert found.targets("model.layers.0.self_attn.q_proj")


def test_thousands_of_patterns_for_thousands_of_modules_end(tmp_path):
    """No expression is slow, but there are a thousand million matches."""
    import numpy as np
    from safetensors.numpy import save_file

    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q"], "base_model_name_or_path": "b"}
    config["rank_pattern"] = {f"{i}x": 1 for i in range(15_000)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    one = np.ones((1, 1), dtype=np.float32)
    names = [f"base_model.model.m.{i}.q.lora_{half}.weight" for i in range(5000) for half in "AB"]
    save_file(dict.fromkeys(names, one), tmp_path / "adapter_model.safetensors")
    start = time.process_time()
    with pytest.raises(BankError, match="take more than 2 s"):
        Adapter.from_pretrained(tmp_path)
    assert time.process_time() - start < 10


PIECES = r"q_proj k model \. . .* \d+ (q|k) [qk]_proj (?:layers)? s+? ^ $ \b {2} (?!k) _ a* | [^.]+ \w {1,3}"
pieces = st.sampled_from(PIECES.split())
names = st.lists(st.sampled_from(["model", "layers", "0", "11", "q_proj", "k", "aa"]), min_size=1, max_size=5)


@settings(max_examples=300)
@given(st.lists(pieces, min_size=1, max_size=6).map("".join), names.map(".".join))
def test_what_is_allowed_means_what_it_means_to_peft(pattern, name):
    """The same answer as Python's matcher, which PEFT uses."""
    for template in (patterns.KEY, patterns.WHOLE):
        if patterns.problem(pattern, template) is not None:
            with pytest.raises(re.error):
                re.compile(template.format(pattern))
            continue
        expected = re.match(template.format(pattern), name)
        assert bool(patterns.Matcher().match(pattern, template, name)) == bool(expected)
        if template == patterns.WHOLE:
            assert bool(expected) == bool(re.fullmatch(pattern, name))


REAL = [
    r".*\.(q_proj|v_proj)",
    r"^(?!.*vision).*\.(?:q|k|v)_proj$",
    r"^(language_model(?=\.).*\.(q_proj|k_proj))$",
    r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|down_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|down_proj)))",
    r"model\.layers\.\d+\.self_attn\.[qkv]_proj",
]


@pytest.mark.parametrize("pattern", REAL)
def test_what_trainers_write_is_taken(pattern):
    assert patterns.problem(pattern, patterns.WHOLE) is None
    for name in ("model.layers.3.self_attn.q_proj", "language_model.x.q_proj", "vision.q_proj"):
        found = patterns.Matcher().match(pattern, patterns.WHOLE, name)
        assert bool(found) == bool(re.fullmatch(pattern, name))
