"""Slopes towards adapters: against finite differences along each, and against dense autograd."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.adapter import Adapter, LoraPair
from lorameta.bank import AdapterBank
from lorameta.data import load_examples
from lorameta.generate import mix
from lorameta.operator.gradient import slopes
from lorameta.operator.mixture_loss import MixtureLoss
from lorameta.operator.normalized import normalized

torch = pytest.importorskip("torch")
pytest.importorskip("peft")


@pytest.fixture(scope="module")
def base(tiny_bank):
    from lorameta.base_model.load import load_base

    found = load_base(AdapterBank.open(tiny_bank).base_model)
    found.model.double()
    return found


@pytest.fixture(scope="module")
def own(tiny_bank):
    bank = AdapterBank.open(tiny_bank)
    adapters = [bank[name] for name in bank]
    modules = dict(adapters[1].modules)
    del modules[next(iter(modules))]
    return [adapters[0], Adapter(modules, "base", name="lacks a module"), *adapters[2:]]


@pytest.fixture(scope="module")
def alike(own):
    """With one A, and scalings that differ."""
    first = own[0].modules
    return [
        Adapter({m: LoraPair(first[m].A, p.B, 0.2 + i) for m, p in found.modules.items()}, "base")
        for i, found in enumerate((own[0], own[2], own[3]))
    ]


@pytest.mark.parametrize("kind", ["own", "alike"])
def test_slopes_are_the_derivative_of_the_loss_along_each_adapter(base, tiny_rows, request, kind):
    adapters, rows = request.getfixturevalue(kind), load_examples(tiny_rows)
    k = len(adapters)
    centre = np.full(k, 1 / k)
    found = slopes(base, adapters, rows, centre)
    loss, step = MixtureLoss(base, adapters, rows), 2e-3
    expected = [(loss(centre + step * loss.one(i)) - loss(centre - step * loss.one(i))) / (2 * step) for i in range(k)]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=5e-4)
    assert np.abs(found).max() > 0.1


def test_slopes_are_those_of_dense_autograd_at_the_base(base, own, tiny_rows):
    rows = load_examples(tiny_rows)[:3]
    found = slopes(base, own, rows, np.zeros(4))
    names = list(own[0].modules)
    weights = {name: base.model.get_submodule(name).weight for name in names}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        total, tokens = 0.0, 0
        for row in rows:
            ids = base.tokenizer(f"{row.input} {row.output}")["input_ids"] + [base.tokenizer.eos_token_id]
            start = len(base.tokenizer(row.input)["input_ids"])
            logits = base.model(torch.tensor([ids])).logits[0]
            losses = -torch.log_softmax(logits, dim=-1)[torch.arange(len(ids) - 1), ids[1:]]
            total, tokens = total + losses[start - 1 :].sum(), tokens + len(ids) - start
        (total / tokens).backward()
        gradients = {name: weight.grad.numpy() for name, weight in weights.items()}
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
            weight.grad = None
    expected = [sum(np.sum(gradients[m] * p.delta()) for m, p in adapter.modules.items()) for adapter in own]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_nothing_stays_behind(base, own, tiny_rows):
    slopes(base, own, load_examples(tiny_rows)[:2], np.zeros(4))
    assert not any(module._forward_hooks for module in base.model.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in base.model.parameters())


def test_the_operator_weighs_by_slope_over_norm(base, tiny_bank, tiny_rows):
    bank = AdapterBank.open(tiny_bank)
    mixture = mix(tiny_rows, bank=bank, operator="gradient", temperature=0.7)
    adapters, rows = [bank[name] for name in bank], load_examples(tiny_rows)
    found = slopes(base, adapters, rows, np.full(4, 0.25)) / [adapter.norm() for adapter in adapters]
    np.testing.assert_allclose(mixture.weights, normalized(found, temperature=0.7), rtol=1e-3)
    assert mixture.details == {"candidates": 4, "rows": 12}
    kept = mix(tiny_rows, bank=bank, operator="gradient", top_k=2, operator_options={"candidates": 3})
    assert np.count_nonzero(kept.weights) == 2
