"""`make demo`, on the miniature bank: it says and writes everything that it promises."""

import re

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.examples import demo


@pytest.fixture
def bank(tiny_bank, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lorameta.bank.locate.shipped_path", lambda _: tiny_bank)
    monkeypatch.setattr(demo, "TEST", tmp_path / "test.jsonl")
    monkeypatch.setattr(demo, "SETTINGS", {"steps": 2})
    lines = demo.TRAIN.with_name("helpdesk_test.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    demo.TEST.write_text("\n".join(lines), encoding="utf-8")
    return AdapterBank.open()


def test_the_demo_prints_weights_scores_answers_and_what_is_next(bank, tmp_path, capsys):
    demo.main()
    output = capsys.readouterr().out
    for label in ("adapter", "Effective number", "exact match", "ROUGE-L", "loss per token", "message", "expected"):
        assert label in output
    for model in ("base", "nearest", "by distances", "generated", "fine-tuned"):
        assert f"\n{model}" in output
    assert re.search(r"CPU time: \d+ s for generated, \d+ s for fine-tuned\.", output)
    assert "./demo-output/helpdesk-adapter" in output
    assert "lorameta evaluate" in output
    assert (tmp_path / "demo-output" / "helpdesk-adapter" / "adapter_model.safetensors").is_file()


def test_a_second_run_scores_only_what_it_made(bank, monkeypatch, capsys):
    demo.main()
    first = capsys.readouterr().out
    scored = []
    score = demo.Scorer.score
    monkeypatch.setattr(
        demo.Scorer, "score", lambda self, *args, **more: scored.append(args) or score(self, *args, **more)
    )

    def again():
        scored.clear()
        demo.main()
        output = capsys.readouterr().out
        for model in ("base", "nearest", "by distances", "fine-tuned"):
            line = re.search(rf"^{model} .*$", first, re.MULTILINE)
            assert line
            assert line[0] in output
        return output

    assert "All but generated were scored by an earlier run." in again()
    assert len(scored) == 1
    demo.SCORED.write_text('{"of": 1', encoding="utf-8")
    assert "by an earlier run" not in again()
    assert len(scored) == 5


def test_the_fine_tune_is_trained_once_for_the_same_rows_base_and_settings(bank, monkeypatch, capsys):
    said = "in the first run only"

    def tuned():
        adapter, seconds, before = demo.finetuned(bank)
        assert (said in capsys.readouterr().out) is not before
        return adapter.modules, seconds, before

    first, seconds, before = tuned()
    assert not before
    assert seconds > 0
    second, again, before = tuned()
    assert before
    assert again == pytest.approx(seconds, abs=0.1)
    for module, pair in first.items():
        np.testing.assert_allclose(second[module].delta(), pair.delta(), rtol=1e-5, atol=1e-7)
    monkeypatch.setattr(demo, "SETTINGS", {"steps": 2, "rank": 4})
    other, _, before = tuned()
    assert not before
    assert {pair.rank for pair in other.values()} == {4}
    demo.FINETUNED.with_suffix(".json").write_text("{", encoding="utf-8")
    assert not tuned()[2]
