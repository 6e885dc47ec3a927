"""`lorameta.json`: an adapter that is read back still says what it derives from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.adapter.card import card
from lorameta.adapter.lora import LoraPair
from lorameta.adapter.metadata import FILE, LARGEST

SOURCES = {
    "one": {"task": "one", "licence": "MIT", "source": {"repo": "a/b", "path": "rows.json"}, "sha256": "0" * 64},
    "two": {"task": "two", "licence": "CC BY-SA 4.0", "source": {"repo": "c/d"}, "hub": {"repo": "e/f"}},
}


@pytest.fixture
def adapter() -> Adapter:
    pair = LoraPair(np.ones((1, 4), np.float32), np.ones((4, 1), np.float32), 1.0)
    report = {"sources": SOURCES, "weights": {"one": 0.25, "two": 0.75}}
    return Adapter({"model.layers.0.self_attn.q_proj": pair}, "somebody/base", weights=report["weights"], report=report)


def test_sources_come_back_and_the_card_names_their_licences(adapter, tmp_path):
    found = Adapter.from_pretrained(adapter.save_pretrained(tmp_path / "a"))
    assert found.report["sources"]["two"] == SOURCES["two"]
    assert found.report["sources"]["one"] == {key: SOURCES["one"][key] for key in ("task", "licence", "source")}
    again = card(found)
    assert "| one |  |  | a/b rows.json | MIT |" in again
    assert "CC-BY-SA-4.0" in again.partition("## Licences")[2]
    assert ", weight " not in again.partition("## Licences")[2]
    assert (found.save_pretrained(tmp_path / "b") / FILE).read_bytes() == (tmp_path / "a" / FILE).read_bytes()


@pytest.mark.parametrize("sources", [[], "text", {"one": "text"}, {"one": {"licence": ["MIT"], "source": {"repo": 3}}}])
def test_damage_is_left_out(adapter, tmp_path, sources):
    directory = adapter.save_pretrained(tmp_path / "a")
    (directory / FILE).write_text(json.dumps({"format": 1, "sources": sources}))
    found = Adapter.from_pretrained(directory).report.get("sources", {})
    assert not any(found.values())
    assert "## How to load it" in card(Adapter.from_pretrained(directory))


def test_what_is_too_large_is_not_kept(adapter, tmp_path):
    adapter.report["sources"] = {f"adapter-{i}": SOURCES["one"] for i in range(20_000)}
    adapter.report["prompt_template"] = "Say: {input}"
    directory = adapter.save_pretrained(tmp_path / "a")
    assert (directory / FILE).stat().st_size < LARGEST
    assert Adapter.from_pretrained(directory).report == {"prompt_template": "Say: {input}"}
