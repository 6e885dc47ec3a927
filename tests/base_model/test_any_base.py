"""Adapters on all linear layers of small random models of six architectures: built into a bank, mixed, run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lorameta import generate_adapter
from lorameta.bank import AdapterBank
from lorameta.bank.sharding.stack import stack
from lorameta.bank_builder.local import build
from tests.conftest import task_rows
from tests.export.models import linear_shapes, tiny_model
from tests.peft_helpers import dense, write_peft

ARCHITECTURES = [f"{name}ForCausalLM" for name in ("Mistral", "Llama", "Qwen2", "Gemma", "Phi", "Phi3")]
TASKS = ("animal_sound", "number_word", "thing_colour")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_bank_of_any_base(architecture, tiny_bank, tmp_path):
    """The mixed adapter, run by PEFT, computes what the base does with the dense sum added to its weights."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = tmp_path / "base"
    tiny_model(architecture).save_pretrained(base)
    shutil.copy(tiny_bank / "base" / "tokenizer.json", base / "tokenizer.json")
    shapes = linear_shapes(tiny_model(architecture))
    assert len({name.rpartition(".")[2] for name in shapes}) >= 4  # fused layers count once
    (tmp_path / "tasks").mkdir()
    updates = {}
    for seed, task in enumerate(TASKS):
        rng = np.random.default_rng(seed)
        rank = 2 + seed
        factors = {
            module: tuple(rng.normal(scale=0.1, size=size).astype(np.float32) for size in ((rank, d_in), (d_out, rank)))
            for module, (d_out, d_in) in shapes.items()
        }
        write_peft(tmp_path / "adapters" / task, factors, alpha=4.0, base_model_name_or_path=str(base))
        updates[task] = dense(factors, 4.0)
        rows = "".join(json.dumps(row) + "\n" for row in task_rows(task))
        (tmp_path / "tasks" / f"{task}.jsonl").write_text(rows)
    build(tmp_path / "bank", tmp_path / "adapters", base=str(base), datasets=tmp_path / "tasks")
    stack(tmp_path / "bank")
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.check().problems == []

    adapter = generate_adapter(
        tmp_path / "tasks" / "number_word.jsonl", bank=bank, operator="normalized", combiner="delta", rank=9
    )
    weights = adapter.weights
    assert len(weights) == 3
    saved = adapter.save_pretrained(tmp_path / "out")
    dense_model = AutoModelForCausalLM.from_pretrained(bank.base_model).eval()
    modules = dict(dense_model.named_modules())
    with torch.no_grad():
        for module in shapes:
            total = sum(weight * updates[task][module] for task, weight in weights.items())
            modules[module].weight += torch.from_numpy(total).float()
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bank.base_model), saved).eval()
    ids = torch.tensor([[1, 5, 9, 11, 30]])
    with torch.no_grad():
        made, wanted = model(ids).logits, dense_model(ids).logits
        plain = AutoModelForCausalLM.from_pretrained(bank.base_model).eval()(ids).logits
    assert (wanted - plain).abs().max() > 1e-2
    torch.testing.assert_close(made, wanted, rtol=1e-3, atol=2e-4)
