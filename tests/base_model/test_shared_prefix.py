"""Rows packed behind their common beginning: the losses and gradients of the rows one by one."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.base_model.batch import EncodedExample, answer_losses, collate  # noqa: E402
from lorameta.base_model.load import Base  # noqa: E402
from lorameta.base_model.shared_prefix import check_packing, common_beginning, packed_losses, packing  # noqa: E402
from lorameta.errors import UsageError  # noqa: E402
from tests.export.models import tiny_model  # noqa: E402

ROWS = [
    EncodedExample([1, 5, 6, 7, 8, 9, 2], 5),
    EncodedExample([1, 5, 6, 7, 20, 21, 22, 23, 2], 6),
    EncodedExample([1, 5, 6, 7, 2], 4),  # its answer begins where the common tokens end
    EncodedExample([1, 5, 6, 7, 8, 9, 2], 5),
]


class Tokenizer:
    pad_token_id = 0


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [ROWS[0], EncodedExample([9, 5, 2], 1)]])
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen2ForCausalLM"])
def test_losses_and_gradients_are_those_of_the_rows(architecture, rows):
    model = tiny_model(architecture)

    def gradient(losses):
        model.zero_grad()
        losses.sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = answer_losses(model, *collate(rows, 0))
    with packing(model):
        packed = packed_losses(model, rows)
        assert torch.allclose(packed, plain, atol=1e-5)
        found = gradient(packed)
    wanted = gradient(answer_losses(model, *collate(rows, 0)))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, atol=1e-4 * (1 + value.abs().max())), name


def test_the_attention_of_the_model_comes_back():
    model = tiny_model("LlamaForCausalLM")
    before = model.config._attn_implementation
    with packing(model):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == before


def test_a_model_that_packs_otherwise_is_refused():
    model = tiny_model("LlamaForCausalLM")
    check_packing(model, Base(model, Tokenizer, "fine"), ROWS)
    forward = model.forward
    model.forward = lambda *args, position_ids=None, **more: forward(*args, **more)  # counts positions by itself
    with pytest.raises(UsageError, match="--share-prefix"):
        check_packing(model, Base(model, Tokenizer, "other"), ROWS)


def test_common_beginning():
    assert common_beginning([[1, 2, 3], [1, 2, 4], [1, 2]]) == 2
    assert common_beginning([[1, 2, 3], [1, 2, 4], [2]]) == 0
    assert common_beginning([[1, 2]]) == 2
    assert common_beginning([[], [1]]) == 0
