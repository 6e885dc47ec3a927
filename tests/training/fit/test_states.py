"""The states that one pass keeps, against the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from lorameta.adapter import Adapter, LoraPair
from lorameta.base_model.batch import encode_example
from lorameta.base_model.load import Base
from lorameta.data import Example
from lorameta.errors import BankError, UsageError
from lorameta.training.fit.solver import predict
from lorameta.training.fit.states import collect, find_readout
from tests.export.models import tiny_model


def dense(model: Any, modules: Mapping[str, LoraPair]) -> Any:
    """A copy of a model with W + ΔW in its layers, its head no longer tied to its embedding."""
    import copy

    copied = copy.deepcopy(model)
    head = copied.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    for name, pair in modules.items():
        weight = copied.get_submodule(name).weight
        weight.data += torch.from_numpy(pair.delta())
    return copied


def test_loss_and_greedy_choice_are_those_of_the_model(base: Base, rows: list[Example], adapter: Adapter) -> None:
    encoded = [encode_example(base.tokenizer, row) for row in rows]
    readout = find_readout(base.model, encoded[0])
    passed = collect(base.model, readout, adapter.modules, encoded, pad=0)
    scores = predict(passed.states)
    changed = dense(base.model, adapter.modules)
    losses, right = [], []
    for row in encoded:
        with torch.inference_mode():
            logits = changed(input_ids=torch.tensor([row.ids])).logits[0, row.answer_start - 1 : -1]
        gold = torch.tensor(row.ids[row.answer_start :])
        losses.append(torch.nn.functional.cross_entropy(logits, gold, reduction="none").numpy())
        right.append((logits.argmax(1) == gold).numpy())
    assert passed.tokens < sum(len(row.ids) for row in encoded)  # what the prompts share went through once
    np.testing.assert_allclose(scores.loss, np.concatenate(losses), rtol=1e-3, atol=1e-4)
    assert (scores.right == np.concatenate(right)).mean() > 0.98
    assert (scores.rows == np.repeat(np.arange(len(rows)), [len(part) for part in losses])).all()


def test_the_base_is_left_as_it_was(base: Base, rows: list[Example], adapter: Adapter) -> None:
    ids = torch.tensor([encode_example(base.tokenizer, rows[0]).ids])
    before = base.model(input_ids=ids).logits
    encoded = [encode_example(base.tokenizer, row) for row in rows]
    collect(base.model, find_readout(base.model, encoded[0]), adapter.modules, encoded, pad=0)
    assert torch.equal(before, base.model(input_ids=ids).logits)
    assert not any(module._forward_hooks for module in base.model.modules())


def test_a_budget_leaves_rows_out_by_the_seed(base: Base, rows: list[Example]) -> None:
    encoded = [encode_example(base.tokenizer, row) for row in rows]
    readout = find_readout(base.model, encoded[0])
    few = [collect(base.model, readout, {}, encoded, pad=0, budget=1e-9, seed=seed).used for seed in (0, 0, 1)]
    assert len(few[0]) == 8
    assert list(few[0]) == list(few[1]) != list(few[2])


def test_an_adapter_of_another_base_is_refused(base: Base, rows: list[Example]) -> None:
    encoded = [encode_example(base.tokenizer, row) for row in rows[:4]]
    wrong = {name: LoraPair(np.ones((1, 5)), np.ones((7, 1))) for name in ("lm_head", "nowhere")}
    with pytest.raises(BankError, match=r"(?s)lm_head.*nowhere"):
        collect(base.model, find_readout(base.model, encoded[0]), wrong, encoded, pad=0)


@pytest.mark.parametrize(
    ("architecture", "options", "scale", "block"),
    [
        ("LlamaForCausalLM", {}, 1.0, True),
        ("Qwen3ForCausalLM", {}, 1.0, True),
        ("GemmaForCausalLM", {}, 1.0, True),
        ("GraniteForCausalLM", {"residual_multiplier": 0.5, "logits_scaling": 4.0}, 0.25, False),
        ("Gemma3ForCausalLM", {}, 1.0, False),
        ("PhiForCausalLM", {}, 1.0, False),
    ],
)
def test_the_last_block_is_only_touched_where_it_writes_to_the_stream_as_it_is(
    architecture: str, options: dict[str, float], scale: float, block: bool
) -> None:
    from lorameta.base_model.batch import EncodedExample

    found = find_readout(tiny_model(architecture, **options), EncodedExample(list(range(1, 12)), 8))
    assert (found.down is not None) == block
    assert found.head_name == "lm_head"
    assert found.scale == pytest.approx(scale)


def test_the_last_block_is_found_in_bfloat16_too(base: Base, rows: list[Example]) -> None:
    """Rounding alone must not look like a norm behind the block."""
    import copy

    from lorameta.base_model.load import cast

    model = cast(copy.deepcopy(base.model), "bfloat16")
    assert find_readout(model, encode_example(base.tokenizer, rows[0])).down is not None


def test_a_soft_cap_is_refused() -> None:
    from lorameta.base_model.batch import EncodedExample

    model = tiny_model("Gemma2ForCausalLM", final_logit_softcapping=0.5)
    with pytest.raises(UsageError, match="soft cap"):
        find_readout(model, EncodedExample(list(range(1, 12)), 8))
