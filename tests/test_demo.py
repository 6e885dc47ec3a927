"""`make demo`, on the miniature bank: it says and writes everything that it promises."""

import pytest

from lorameta.examples import demo


@pytest.fixture
def output(tiny_bank, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lorameta.bank.locate.shipped_path", lambda _: tiny_bank)
    monkeypatch.setattr(demo, "TEST", tmp_path / "test.jsonl")
    lines = demo.TRAIN.with_name("helpdesk_test.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    demo.TEST.write_text("\n".join(lines), encoding="utf-8")
    demo.main()
    return capsys.readouterr().out


def test_the_demo_prints_weights_scores_answers_and_what_is_next(output, tmp_path):
    for label in ("adapter", "Effective number", "exact match", "ROUGE-L", "loss per token", "message", "expected"):
        assert label in output
    for model in ("base", "nearest", "uniform", "by distances", "generated"):
        assert f"\n{model}" in output
    assert "./demo-output/helpdesk-adapter" in output
    assert "lorameta evaluate" in output
    assert (tmp_path / "demo-output" / "helpdesk-adapter" / "adapter_model.safetensors").is_file()
