"""`lorameta doctor`: a verdict for each capability, the same for machines, and refusals that say what to do."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")


def test_the_verdicts_are_printed(lorameta, tiny_bank):
    result = lorameta("doctor", "--bank", tiny_bank, "--length", 16)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    for capability in ("generate", "run", "refine"):
        assert any(line.startswith(capability) and " yes" in line for line in lines)
    assert "a token" in result.out
    assert "MistralForCausalLM" in result.out
    assert "Where the numbers come from:" in result.out


def test_the_same_for_machines(lorameta, tiny_bank):
    found = lorameta("doctor", tiny_bank / "base", "--json", "--quick", "--targets", "q_proj, v_proj", "--rank", 2).json
    assert found["base"]["targets"] == ["q_proj", "v_proj"]
    assert found["base"]["adapter_parameters"] == 2 * 2 * (32 + 32 + 16 + 32)
    assert set(found["capabilities"]) == {"generate", "run", "refine"}
    assert found["capabilities"]["run"]["best"]["fits"] is True
    assert found["machine"]["available"] > 0
    assert found["total_seconds"] > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--targets", "x_proj"], "no linear layer x_proj"),
        (["--rank", "0"], "--rank"),
        (["--batch-size", "0"], "--batch-size"),
        (["--length", "2"], "--length"),
        (["--bank", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_call_is_refused(lorameta, tiny_bank, words, expected):
    result = lorameta("doctor", tiny_bank / "base", "--quick", *words)
    assert result.code == 2
    assert expected in result.err
    assert result.out == ""


def test_a_base_that_is_not_there_is_explained(lorameta, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = lorameta("doctor", "nobody/nothing-7b", "--quick")
    assert result.code == 2
    assert "hf download nobody/nothing-7b config.json" in result.err
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    assert lorameta("doctor", tmp_path, "--quick").code == 2
