"""An adapter as a start: the same update, whatever its rank and scaling, in factors that gradients can move."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.adapter import Adapter, LoraPair  # noqa: E402
from lorameta.errors import BankError  # noqa: E402
from lorameta.training import LoraTraining, load_base  # noqa: E402
from lorameta.training.adapted import lora_on  # noqa: E402
from lorameta.training.start import ROW, balanced, check_start, cut, write_into  # noqa: E402

RNG = np.random.default_rng(5)


def pair(rank=3, scaling=0.7, size=1.0, d_out=12, d_in=20) -> LoraPair:
    return LoraPair(size * RNG.normal(size=(rank, d_in)), RNG.normal(size=(d_out, rank)), scaling)


@pytest.mark.parametrize("size", [1e-6, 0.01, 1.0, 30.0])
def test_balancing_changes_the_factors_and_not_the_update(size):
    given = pair(size=size)
    A, B = balanced(given, 2.0)
    np.testing.assert_allclose(2.0 * B.astype(float) @ A, given.delta(), rtol=1e-5, atol=1e-6 * size)
    assert (np.linalg.norm(A, axis=1) >= ROW * 0.999).all()


def test_long_rows_are_left_alone():
    given = pair(size=3.0)
    A, _ = balanced(given, given.scaling)
    np.testing.assert_array_equal(A, given.A)


def test_peft_draws_rows_of_the_length_that_is_asked_for(tiny_bank):
    base = load_base(tiny_bank / "base")
    with lora_on(base, LoraTraining(rank=64, targets=("q_proj",))) as model:
        rows = torch.cat([p for name, p in model.named_parameters() if "lora_A" in name])
    assert rows.norm(dim=1).mean().item() == pytest.approx(ROW, rel=0.02)


@pytest.mark.parametrize("rank", [4, 7])
def test_the_model_answers_as_with_the_adapter_merged(tiny_bank, rank):
    base = load_base(tiny_bank / "base")
    adapter = Adapter.from_pretrained(tiny_bank / "adapters" / "animal_sound")
    ids = torch.arange(3, 20)[None]
    weights = dict(base.model.named_modules())
    with torch.no_grad():
        for name, one in adapter.modules.items():
            weights[name].weight += torch.from_numpy(one.delta())
        expected = base.model(ids).logits
        for name, one in adapter.modules.items():
            weights[name].weight -= torch.from_numpy(one.delta())
        settings = LoraTraining(rank=rank, alpha=3, targets=tuple(adapter.modules))
        with lora_on(base, settings) as model:
            plain = model(ids).logits
            parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
            write_into(parameters, cut(adapter, rank), settings.alpha / rank)
            torch.testing.assert_close(model.eval()(ids).logits, expected, atol=1e-4, rtol=1e-4)
            unused = [p for name, p in parameters.items() if "lora_A" in name and rank > 4]
            assert all((p[4:].abs().sum(dim=1) > 0).all() for p in unused)  # a zero row could never learn
    assert not torch.allclose(plain, expected, atol=1e-3)


def test_a_smaller_rank_is_the_best_approximation():
    adapter = Adapter({"m": pair(rank=6)}, "base")
    full = adapter.modules["m"].delta().astype(float)
    found = cut(adapter, 2)["m"]
    singular = np.linalg.svd(full, compute_uv=False)
    assert found.rank == 2
    assert np.linalg.norm(full - found.delta()) == pytest.approx(np.sqrt((singular[2:] ** 2).sum()), rel=1e-4)


def test_an_adapter_of_another_base_is_refused_with_all_that_is_wrong():
    adapter = Adapter({"a.q_proj": pair(), "a.k_proj": pair(), "b.v_proj": pair()}, "base", name="mine")
    linear = {"a.q_proj": (12, 20), "a.k_proj": (12, 21)}
    with pytest.raises(BankError) as error:
        check_start(adapter, linear, ("k_proj",), "other")
    text = str(error.value)
    assert "a.k_proj changes a weight of (12, 20); that of the base is (12, 21)" in text
    assert "b.v_proj is no linear layer" in text
    assert "a.q_proj is changed by the adapter and not among the targets k_proj" in text
    check_start(Adapter({"a.q_proj": pair()}, "base"), linear, ("all-linear",), "base")
