"""The card names what was mixed, under which licences, and is the same for the same adapter."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lorameta.adapter import Adapter, LoraPair
from lorameta.adapter.card import NAMED, SHOWN, card, conflicts, renamed_base
from lorameta.generate import generate_adapter

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
MODULE = "model.layers.0.self_attn.q_proj"


def mixed(base: str = MISTRAL, **licences: str) -> Adapter:
    """An adapter of equal parts, one for each licence."""
    weights = {name: 1 / len(licences) for name in licences}
    sources = {name: {"licence": licence, "source": {}} for name, licence in licences.items()}
    pair = LoraPair(np.ones((1, 2)), np.ones((2, 1)))
    return Adapter({MODULE: pair}, base, weights=weights, report={"sources": sources, "distances": {}})


def metadata(text: str, tmp_path) -> dict:
    """The front matter as the Hub's own library reads it from the file."""
    hub = pytest.importorskip("huggingface_hub")
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    found = hub.metadata_load(path)
    assert hub.ModelCard(text).data.to_dict() == found
    assert hub.ModelCard.load(path).text.strip().startswith("# LoRA adapter")
    return found


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
    assert text.startswith("---\nlibrary_name: peft\n")
    assert json.dumps(generated.base_model) in text


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
    text = card(Adapter({"model.layers.0.self_attn.q_proj": pair}, "base"))
    assert "mixed" not in text
    assert "icence" not in text


def test_the_front_matter_is_what_the_hub_reads_and_takes(tmp_path):
    adapter = mixed(first="MIT", second="The MIT License")
    assert metadata(card(adapter), tmp_path) == {
        "base_model": MISTRAL,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": "mit",
        "tags": ["lora", "lorameta", f"base_model:adapter:{MISTRAL}"],
    }
    found = metadata(card(mixed(first="MIT", second="CC-BY-4.0")), tmp_path)
    assert (found["license"], found["license_name"]) == ("other", "mixed-sources")
    found = metadata(card(mixed(first="WordNet licence")), tmp_path)
    assert (found["license"], found["license_name"]) == ("other", "wordnet")
    assert found["license_link"].startswith("https://")


def test_a_base_that_is_a_directory_is_not_in_the_front_matter(generated, tmp_path):
    # The Hub refuses a card whose base_model is no id of its own.
    assert "base_model" not in metadata(card(generated), tmp_path)
    assert metadata(card(mixed("./somewhere/base", first="MIT")), tmp_path)["tags"] == ["lora", "lorameta"]


def test_a_base_renamed_stands_in_text_and_front_matter(generated, tmp_path):
    text = renamed_base(card(generated), generated.base_model, MISTRAL)
    assert generated.base_model not in text
    assert metadata(text, tmp_path)["base_model"] == MISTRAL
    assert renamed_base(text, MISTRAL, "other/base").count("base_model: ") == 1
    assert metadata(renamed_base(text, MISTRAL, "other/base"), tmp_path)["base_model"] == "other/base"
    assert renamed_base("no front matter, of old/base", "old/base", "new/base") == "no front matter, of new/base"


def test_datasets_are_named_where_they_are_on_the_hub(tmp_path):
    adapter = mixed(first="MIT", second="MIT", third="MIT")
    sources = adapter.report["sources"]
    sources["first"] |= {"source": {"repo": "Lots-of-LoRAs/task022"}, "hub": {"repo": "Lots-of-LoRAs/x-task022"}}
    sources["second"] |= {"source": {"repo": "someone/on-github"}}  # a repository, but not on the Hub
    sources["third"] |= {"hub": {"repo": "someone/else"}}
    text = card(adapter)
    assert metadata(text, tmp_path)["datasets"] == ["Lots-of-LoRAs/task022"]
    assert "first (Lots-of-LoRAs/x-task022)" in text


def test_licences_come_with_their_duties_their_share_and_their_conflicts():
    adapter = mixed(first="CC BY-SA 4.0", second="CC BY-NC 4.0", third="MIT", fourth="")
    text = card(adapter)
    assert "- MIT: pass on its text and copyright notice (1 adapter, weight 0.2500)" in text
    assert "do not use it commercially (1 adapter" in text
    assert "- unknown: its terms are not known here: ask whoever published it (1 adapter" in text
    assert "not legal advice" in text
    (sentence,) = conflicts(adapter.report)
    assert "CC-BY-SA-4.0 does not go together with CC-BY-NC-4.0" in sentence
    assert f"- {sentence}" in text
    assert "- a source says no licence" in text
    harmless = mixed(first="MIT", second="Apache-2.0")
    assert conflicts(harmless.report) == []
    assert "None of them is known to stand against another" in card(harmless)


def test_the_rows_may_have_another_licence_than_the_adapter():
    adapter = mixed(first="CC-BY-4.0")
    adapter.report["sources"]["first"]["hub"] = {"repo": "a/b", "licence": "cc-by-nc-4.0"}
    text = card(adapter)
    assert "| rows: CC-BY-4.0; adapter: cc-by-nc-4.0 |" in text
    assert "license: other" in text


def test_coverage_verification_and_absent_modules_are_said(generated):
    text = card(generated)
    assert "- files of the adapters: verified against the bank's hashes" in text
    assert "do not change" not in text
    absent = {f"adapter-{i:02d}": [f"model.layers.{j}.q_proj" for j in range(12)] for i in range(NAMED + 3)}
    outside = {"nearest": "far", "distance": 0.9, "typical": 0.2, "p_value": 0.01, "outside": True}
    changed = replace(
        generated, report=generated.report | {"verified": False, "absent_modules": absent, "outside": outside}
    )
    text = card(changed)
    assert "not against the bank's hashes" in text
    assert "- dataset covered by the bank: no, it lies outside" in text
    assert f"- modules that {NAMED + 3} of the adapters do not change" in text
    assert "  - adapter-00: model.layers.0.q_proj, model.layers.1.q_proj" in text
    assert "model.layers.9.q_proj and 2 more" in text
    assert "  - and 3 adapters more" in text


def test_what_a_name_holds_cannot_break_the_table():
    adapter = mixed(first="a|b\nc")
    line = next(line for line in card(adapter).splitlines() if line.startswith("| first |"))
    assert line.endswith("| a\\|b c |")
