"""What a machine can do with a base, and in which dtype."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.doctor.judging import judged


def test_a_large_machine_does_it_all_in_the_quicker_dtype():
    verdicts, advice, shape = judged(60)
    assert {name: capability.best.dtype for name, capability in verdicts.items()} == {
        "generate": "", "run": "bfloat16", "refine": "bfloat16",
    }  # fmt: skip
    assert not verdicts["refine"].best.checkpointing
    assert advice == []
    assert verdicts["run"].best.seconds["token"] == pytest.approx(shape.layers * 0.01 + 0.01)
    assert verdicts["refine"].best.seconds["step"] == pytest.approx(shape.layers * 2.0 + 0.4, rel=0.01)


def test_what_was_not_timed_is_taken_as_the_training_engine_takes_it():
    verdicts, _, _ = judged(60, timed=False)
    assert verdicts["run"].best.dtype == "bfloat16"
    assert not verdicts["refine"].best.checkpointing
    assert "not timed" in verdicts["refine"].verdict


def test_memory_decides_on_checkpointing():
    assert judged(24)[0]["refine"].best.checkpointing is False
    verdicts, advice, _ = judged(20)
    assert verdicts["refine"].best.checkpointing is True
    assert "with gradient checkpointing" in verdicts["refine"].verdict
    assert advice == []
