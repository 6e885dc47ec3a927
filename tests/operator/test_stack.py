"""Stacking: its objective against finite differences and scipy, and mixtures whose best weights are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.special import logsumexp

from lorameta.adapter import Adapter, LoraPair
from lorameta.bank import AdapterBank
from lorameta.data import load_examples
from lorameta.generate import mix
from lorameta.operator.convex import Linearised, cross_validated
from lorameta.operator.mixture_loss import MixtureLoss
from lorameta.operator.stack import stack


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    return Linearised(rng.normal(size=(40, 6)), rng.normal(size=(3, 40, 6)))


def objective(problem, ridge):
    """Written out once more, with other means."""

    def value(weights):
        logits = problem.start + sum(w * D for w, D in zip(weights, problem.slopes, strict=True))
        return np.mean(logsumexp(logits, axis=1) - logits[:, 0]) + ridge / 2 * np.sum(weights**2)

    return value


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_value_and_gradient(problem, ridge):
    weights = np.array([0.4, 0.0, 1.7])
    value, gradient = problem.value_and_gradient(weights, ridge)
    expected = objective(problem, ridge)
    assert value == pytest.approx(expected(weights), rel=1e-12)
    np.testing.assert_allclose(gradient, approx_fprime(weights, expected, 1e-7), atol=1e-5)
    np.testing.assert_allclose(problem.losses(weights).mean(), expected(weights) - ridge / 2 * (weights @ weights))


def test_the_minimum_is_that_of_another_solver(problem):
    for least in (0.0, -0.2):
        found = problem.solve(0.05, least=least)
        other = minimize(objective(problem, 0.05), np.ones(3), method="SLSQP", bounds=[(least, None)] * 3, tol=1e-12)
        np.testing.assert_allclose(found, other.x, atol=1e-3)
        assert objective(problem, 0.05)(found) <= other.fun + 1e-8
        assert (found >= least).all()


def test_cross_validation_leaves_whole_rows_out(problem):
    owner = np.repeat(np.arange(8), 5)
    expected = 0.0
    for fold in range(4):
        held = np.isin(owner, [fold, fold + 4])
        weights = Linearised(problem.start[~held], problem.slopes[:, ~held]).solve(0.1)
        expected += problem.losses(weights)[held].sum() / len(owner)
    assert cross_validated(problem, owner, 0.1) == pytest.approx(expected, rel=1e-9)


@pytest.fixture(scope="module")
def base(tiny_bank):
    pytest.importorskip("peft")
    from lorameta.base_model.load import load_base

    return load_base(AdapterBank.open(tiny_bank).base_model)


def small(adapter, factor):
    return Adapter({m: LoraPair(p.A, p.B, p.scaling * factor) for m, p in adapter.modules.items()}, "base")


def test_the_mixture_that_wrote_the_answers_is_found(tiny_bank, tiny_rows, base):
    """Logits of small updates are linear, and for answers drawn from a mixture's model that mixture is the best."""
    bank = AdapterBank.open(tiny_bank)
    adapters = [small(bank[name], 0.003) for name in bank]
    loss = MixtureLoss(base, adapters, load_examples(tiny_rows))
    truth = np.array([1.5, 0.0, 0.5, 0.0])
    start = loss.logits(np.zeros(4))
    slopes = np.stack([loss.logits(loss.one(i)) - start for i in range(4)])
    wanted = loss.logits(truth)
    np.testing.assert_allclose(start + np.tensordot(truth, slopes, axes=1), wanted, atol=0.02)
    start, slopes, wanted = start[:8], slopes[:, :8], wanted[:8]
    # As many tokens of each kind as the mixture's own distribution has: its column takes the place of the answer's.
    shares = np.exp(wanted - logsumexp(wanted, axis=1, keepdims=True))
    counts = np.rint(20_000 * shares).astype(int)
    places = [(t, c) for t in range(len(wanted)) for c in range(wanted.shape[1]) for _ in range(counts[t, c])]
    order = [np.r_[c, np.delete(np.arange(wanted.shape[1]), c)] for _, c in places]
    rows = [t for t, _ in places]
    drawn = Linearised(
        np.stack([start[t][o] for t, o in zip(rows, order, strict=True)]),
        300 * np.stack([slopes[:, t][:, o] for t, o in zip(rows, order, strict=True)], axis=1),
    )
    np.testing.assert_allclose(300 * drawn.solve(0.0), truth, atol=0.1)


def test_it_beats_its_adapters_and_says_what_the_model_says(tiny_bank, tiny_rows, base):
    bank = AdapterBank.open(tiny_bank)
    adapters = [small(bank[name], 0.5) for name in bank]
    loss = MixtureLoss(base, adapters, load_examples(tiny_rows))
    ticks = []
    from lorameta.operator.progress import Progress

    weights, details, alone = stack(loss, ridge=1e-3, rounds=2, progress=Progress(ticks.append))
    assert (weights >= 0).all()
    assert details["loss"] == pytest.approx(loss(weights), abs=1e-3)
    assert details["loss_of_base"] == pytest.approx(loss(np.zeros(4)), abs=1e-3)
    np.testing.assert_allclose(alone, [loss(loss.one(i)) for i in range(4)], rtol=1e-5)
    assert details["loss"] <= alone.min() + 1e-4
    assert details["loss"] < details["loss_of_base"]
    assert sum(ticks) == 2 * (1 + 4 + 4)
    one, first, _ = stack(loss, ridge=1e-3)
    assert first["loss"] >= details["loss"] - 1e-9
    assert loss(one) == pytest.approx(first["loss"], abs=1e-3)


def test_an_adapter_that_only_harms_gets_nothing(tiny_bank, tiny_rows, base):
    """Of a small update and its opposite one helps and the other harms."""
    bank = AdapterBank.open(tiny_bank)
    one = small(bank["opposite"], 0.2)
    loss = MixtureLoss(base, [one, small(one, -1)], load_examples(tiny_rows))
    weights, _, _ = stack(loss, ridge=1e-3)
    helps = int(loss(loss.one(1)) < loss(loss.one(0)))
    assert weights[helps] > 0.1
    assert weights[1 - helps] == 0


def test_stack_through_mix(tiny_bank, tiny_rows):
    bank = AdapterBank.open(tiny_bank)
    options = {"candidates": 2, "rows": 6, "shortlist": "halving", "ridge": 0.1}
    mixture = mix(tiny_rows, bank=bank, operator="stack", operator_options=options)
    assert np.count_nonzero(mixture.weights) <= 2
    assert mixture.details["candidates"] == 2
    assert mixture.details["rows"] == 6
    assert mixture.details["ridge"] == 0.1
