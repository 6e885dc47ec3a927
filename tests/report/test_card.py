"""The card names what was mixed, under which licences, and is the same for the same adapter."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.adapter import Adapter, LoraPair
from lorameta.generate import generate_adapter
from lorameta.report.card import SHOWN, card


@pytest.fixture
def generated(tiny_bank, tiny_rows) -> Adapter:
    return generate_adapter(tiny_rows, bank=tiny_bank, operator="normalized", temperature=1.0)


def test_every_source_stands_there_with_weight_distance_and_licence(generated):
    text = card(generated)
    for name, weight in generated.weights.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert f"{weight:.6f}" in line
        assert f"{generated.report['distances'][name]:.6f}" in line
        assert generated.report["sources"][name]["licence"] in line
    assert f"{generated.report['effective_number']}" in text
    assert text.startswith("---\nbase_model: ")
    assert "library_name: peft" in text


def test_the_same_adapter_gives_the_same_card_and_a_run_is_added_on_request(generated):
    assert card(generated) == card(generated)
    assert "seconds" not in card(generated)
    assert "- Time: 3 s" in card(generated, run={"Time": "3 s"})


def test_the_card_is_saved_with_the_adapter(generated, tmp_path):
    directory = generated.save_pretrained(tmp_path / "out")
    assert (directory / "README.md").read_text(encoding="utf-8") == card(generated)


def test_a_long_mixture_is_cut_and_says_so():
    pair = LoraPair(np.ones((1, 2)), np.ones((2, 1)))
    weights = {f"adapter-{i:03d}": 1 / 60 for i in range(60)}
    text = card(Adapter({"model.layers.0.self_attn.q_proj": pair}, "base", weights=weights))
    assert text.count("| adapter-") == SHOWN
    assert f"and {60 - SHOWN} more with a weight of {(60 - SHOWN) / 60:.6f} in all" in text


def test_an_adapter_of_a_bank_has_no_mixture_to_report():
    pair = LoraPair(np.ones((1, 2)), np.ones((2, 1)))
    assert "mixed" not in card(Adapter({"model.layers.0.self_attn.q_proj": pair}, "base"))
