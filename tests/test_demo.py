"""`make demo`, on the miniature bank: it says and writes everything that it promises."""

import re

import pytest

from lorameta.adapter import Adapter
from lorameta.examples import demo


@pytest.fixture
def run(tiny_bank, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lorameta.bank.locate.shipped_path", lambda _: tiny_bank)
    monkeypatch.setattr(demo, "TEST", tmp_path / "test.jsonl")
    monkeypatch.setattr(demo, "SETTINGS", {"steps": 2})
    lines = demo.TRAIN.with_name("helpdesk_test.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    demo.TEST.write_text("\n".join(lines), encoding="utf-8")

    def called() -> str:
        demo.main()
        return capsys.readouterr().out

    return called


def test_the_demo_prints_weights_scores_answers_and_what_is_next(run, tmp_path):
    output = run()
    for label in ("adapter", "Effective number", "exact match", "ROUGE-L", "loss per token", "message", "expected"):
        assert label in output
    for model in ("base", "nearest", "by distances", "generated", "fine-tuned"):
        assert f"\n{model}" in output
    assert "./demo-output/helpdesk-adapter" in output
    assert "lorameta evaluate" in output
    assert (tmp_path / "demo-output" / "helpdesk-adapter" / "adapter_model.safetensors").is_file()


def test_the_fine_tune_is_trained_once_for_the_same_rows_base_and_settings(run, monkeypatch):
    first = run()
    found = re.search(r"CPU time: \d+ s for generated, (\d+) s for fine-tuned\.", first)
    assert found
    assert "in the first run only" in first
    trained = Adapter.from_pretrained(demo.FINETUNED).modules
    second = run()
    assert f"{found[1]} s for fine-tuned, when an earlier run trained it." in second
    assert "in the first run only" not in second
    table = re.search(r"\nfine-tuned .*", first)
    assert table
    assert table[0] in second
    monkeypatch.setattr(demo, "SETTINGS", {"steps": 3})
    assert "in the first run only" in run()
    again = Adapter.from_pretrained(demo.FINETUNED).modules
    assert any((again[module].B != pair.B).any() for module, pair in trained.items())
    demo.FINETUNED.with_suffix(".json").write_text("{", encoding="utf-8")
    assert "in the first run only" in run()
