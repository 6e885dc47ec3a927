"""Memory is added up from its parts, which are counted by hand here."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from lorameta.base_model.shape import outline
from lorameta.machine import memory
from tests.doctor.configs import mistral_7b
from tests.doctor.judging import GB, RUNTIME


def test_memory_is_added_up_from_its_parts():
    shape = outline(mistral_7b(), "m", None, ("all-linear",), 16)
    found = memory.to_run(shape, "bfloat16", 1000, RUNTIME, None)
    assert found.total == sum(found.parts.values())
    assert found.parts["weights"] == 2 * 7_241_732_096
    assert found.parts["cache"] == 1000 * 131_072  # 2 · 32 layers · 8 heads · 128 numbers · 2 bytes
    window = memory.to_run(replace(shape, window=100), "float32", 1000, RUNTIME, None)
    assert window.parts["cache"] == 100 * 262_144
    assert memory.to_run(shape, "float32", 1000, RUNTIME, None).parts["weights"] == 2 * found.parts["weights"]
    step = memory.to_refine(shape, "bfloat16", 2, 400, RUNTIME, None, checkpointing=False)
    assert step.parts["adapter"] == 20 * 41_943_040
    assert step.parts["logits"] == 200 * 32_000 * 16
    again = memory.to_refine(shape, "bfloat16", 2, 400, RUNTIME, None, checkpointing=True)
    assert again.parts["activations"] < step.parts["activations"] / 8
    assert again.total < step.total


def test_mixing_takes_no_more_than_its_adapters():
    shape = outline(mistral_7b(), "m", None, ("q_proj", "k_proj", "v_proj"), 16)
    few = memory.to_mix(shape, 3, shape.adapter_parameters).total
    assert few < 1 * GB
    all_of_them = memory.to_mix(shape, 502, shape.adapter_parameters).total
    assert all_of_them < 1.5 * GB < 502 * 4 * shape.adapter_parameters  # never all at once
