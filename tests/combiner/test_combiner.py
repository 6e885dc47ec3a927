"""The combiners against a dense oracle in float64 that shares no code with them, and the invariants of a mixture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.adapter import Adapter, LoraPair
from lorameta.combiner import COMBINERS, combine, delta
from tests.combiner.oracle import D_OUT, EXACT, MODULES, assert_updates, best, make, oracle, update

SIZES = {"few": (3, 3), "K above one side": (5, 3), "K above both sides": (8, 3), "ranks above the sides": (2, 20)}


@pytest.mark.parametrize(("count", "rank"), SIZES.values(), ids=SIZES)
def test_exact_combiners_give_the_weighted_sum(count, rank):
    adapters = [make(seed, rank=rank, scaling=0.5 + seed) for seed in range(count)]
    weights = np.random.default_rng(1).dirichlet(np.ones(count))
    for method, cut in (("concat", None), ("delta", 1000)):
        modules, errors = combine(adapters, weights, method=method, rank=cut)
        assert_updates(modules, oracle(adapters, weights))
        assert all(pair.scaling == 1.0 for pair in modules.values())
        assert errors == dict.fromkeys(sorted(MODULES), 0.0)
    assert all(pair.rank == min(count * rank, *MODULES[name]) for name, pair in modules.items())
    concatenated, _ = combine(adapters, weights, method="concat", rank=2)
    assert {pair.rank for pair in concatenated.values()} == {count * rank}


@pytest.mark.parametrize(("count", "rank"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_delta_is_the_best_approximation_and_reports_its_error(count, rank, cut):
    adapters = [make(seed, rank=rank, scaling=0.5 + seed) for seed in range(count)]
    weights = np.random.default_rng(2).dirichlet(np.ones(count))
    modules, errors = combine(adapters, weights, rank=cut)
    for module, matrix in oracle(adapters, weights).items():
        expected, error = best(matrix, cut)
        assert_updates({module: modules[module]}, {module: expected})
        assert errors[module] == pytest.approx(error, abs=1e-12)
        achieved = np.linalg.norm(update(modules[module]) - matrix) / np.linalg.norm(matrix)
        assert achieved == pytest.approx(error, abs=1e-6)
        assert modules[module].rank == cut


def test_delta_is_balanced_and_its_signs_are_fixed():
    modules, _ = combine([make(0), make(1)], [0.3, 0.7], rank=4)
    for pair in modules.values():
        gram_B, gram_A = pair.B.T @ pair.B, pair.A @ pair.A.T
        np.testing.assert_allclose(gram_B, gram_A, atol=1e-4)
        np.testing.assert_allclose(gram_B, np.diag(np.diag(gram_B)), atol=1e-4)
        assert (np.diff(np.diag(gram_B)) <= 0).all()
        assert (pair.B[np.abs(pair.B).argmax(axis=0), np.arange(4)] > 0).all()


@pytest.mark.parametrize("method", COMBINERS)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_hot_weights_return_that_adapter(method, position):
    adapters = [make(seed, scaling=1.5) for seed in range(3)]
    modules, errors = combine(adapters, np.eye(3)[position], method=method)
    assert_updates(modules, oracle([adapters[position]], [1.0]))
    assert set(errors.values()) == {0.0}
    assert {pair.rank for pair in modules.values()} == {3}


@pytest.mark.parametrize("method", EXACT)
def test_unused_adapters_may_be_anything(method):
    """A weight of zero leaves an adapter out before it is looked at: rank, shape, base and all."""
    strange = Adapter({"m.0.q": LoraPair(np.ones((9, 2)), np.ones((3, 9)))}, "another base")
    modules, _ = combine([make(0), strange, make(1)], [0.5, 0.0, 0.5], method=method, rank=6)
    assert_updates(modules, oracle([make(0), make(1)], [0.5, 0.5]))


@given(st.permutations(range(4)))
def test_the_order_of_the_bank_does_not_matter(order):
    adapters = [make(seed, rank=1 + seed, scaling=1 + seed) for seed in range(4)]
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    for method in EXACT:
        one, errors = combine(adapters, weights, method=method, rank=3)
        other, permuted = combine([adapters[i] for i in order], weights[list(order)], method=method, rank=3)
        assert_updates(other, {module: update(pair) for module, pair in one.items()})
        assert permuted == pytest.approx(errors, abs=1e-12)


@pytest.mark.parametrize("method", EXACT)
def test_a_change_of_gauge_changes_nothing(method):
    """(M A, B M⁻¹) is the same update as (A, B)."""
    rng = np.random.default_rng(3)
    adapters = [make(seed) for seed in range(3)]
    turned = []
    for adapter in adapters:
        modules = {}
        for module, pair in adapter.modules.items():
            M = rng.normal(size=(3, 3)) + 3 * np.eye(3)
            modules[module] = LoraPair(M @ pair.A, pair.B @ np.linalg.inv(M), pair.scaling)
        turned.append(Adapter(modules, "base"))
    weights = [0.2, 0.5, 0.3]
    one, errors = combine(adapters, weights, method=method, rank=4)
    other, turned_errors = combine(turned, weights, method=method, rank=4)
    assert_updates(other, {module: update(pair) for module, pair in one.items()}, rtol=1e-5)
    assert turned_errors == pytest.approx(errors, abs=1e-5)


@pytest.mark.parametrize("method", COMBINERS)
def test_doubling_alpha_and_halving_B_changes_nothing(method):
    adapters = [make(seed) for seed in range(3)]
    changed = [
        Adapter({name: LoraPair(p.A, p.B / 2, p.scaling * 2) for name, p in adapter.modules.items()}, "base")
        for adapter in adapters
    ]
    one, _ = combine(adapters, [0.2, 0.5, 0.3], method=method)
    other, _ = combine(changed, [0.2, 0.5, 0.3], method=method)
    assert_updates(other, {module: update(pair) for module, pair in one.items()})


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=5).filter(lambda w: sum(w) > 1e-3), st.integers(1, 9))
def test_a_mixture_is_no_larger_than_the_largest_adapter(raw, rank):
    weights = np.array(raw) / sum(raw)
    adapters = [make(seed, scaling=1 + seed) for seed in range(len(raw))]
    for method in EXACT:
        modules, _ = combine(adapters, weights, method=method, rank=rank)
        for module, pair in modules.items():
            largest = max(np.linalg.norm(update(adapter.modules[module])) for adapter in adapters)
            assert np.linalg.norm(update(pair)) <= largest * (1 + 1e-6)


def test_mixed_rank_and_scaling():
    adapters = [make(0, rank=2, scaling=4.0), make(1, rank=5, scaling=0.25), make(2, rank=1, scaling=3 / 5**0.5)]
    weights = [0.5, 0.3, 0.2]
    modules, errors = combine(adapters, weights)
    assert {pair.rank for pair in modules.values()} == {5}
    for module, matrix in oracle(adapters, weights).items():
        expected, error = best(matrix, 5)
        assert_updates({module: modules[module]}, {module: expected})
        assert errors[module] == pytest.approx(error, abs=1e-7)


def test_negative_weights_are_weights():
    adapters = [make(0), make(1)]
    modules, _ = combine(adapters, [1.5, -0.5], rank=6)
    assert_updates(modules, oracle(adapters, [1.5, -0.5]))


@pytest.mark.parametrize("method", COMBINERS)
def test_absent_modules_count_as_zero(method):
    only_q = make(0, modules={"m.0.q": MODULES["m.0.q"]})
    only_k = make(1, modules={"m.0.k": MODULES["m.0.k"]})
    modules, errors = combine([only_q, only_k], [0.25, 0.75], method=method)
    assert list(modules) == ["m.0.k", "m.0.q"] == list(errors)
    power = 2 if method == "factor" else 1  # the factor average weighs each factor
    assert_updates(
        modules,
        {
            "m.0.q": 0.25**power * update(only_q.modules["m.0.q"]),
            "m.0.k": 0.75**power * update(only_k.modules["m.0.k"]),
        },
    )


@pytest.mark.parametrize("method", COMBINERS)
def test_zero_adapters_give_zero(method):
    zero = Adapter({"m.0.q": LoraPair(make(0).modules["m.0.q"].A, np.zeros((D_OUT, 3)))}, "base")
    modules, errors = combine([zero, zero], [0.5, 0.5], method=method)
    assert not update(modules["m.0.q"]).any()
    assert np.isfinite(modules["m.0.q"].A).all()
    assert errors == {"m.0.q": 0.0}


def test_terms_that_cancel_leave_zero_and_no_error():
    adapter = make(0)
    modules, errors = combine([adapter, adapter], [1.0, -1.0], rank=1)
    assert all(np.abs(update(pair)).max() < 1e-12 for pair in modules.values())
    assert set(errors.values()) == {0.0}


def test_copies_and_shared_factors_cost_no_rank():
    """Adapters that share A, as after training from one seed, sum to an update of A's rank: nothing is cut."""
    A = make(0).modules["m.0.q"].A
    rng = np.random.default_rng(5)
    adapters = [Adapter({"m.0.q": LoraPair(A, rng.normal(size=(D_OUT, 3)))}, "base") for _ in range(6)]
    weights = np.full(6, 1 / 6)
    modules, errors = combine(adapters, weights)
    assert_updates(modules, oracle(adapters, weights))
    assert errors == {"m.0.q": 0.0}
    factors, gap = combine(adapters, weights, method="factor")
    assert_updates(factors, oracle(adapters, weights))
    assert gap == {"m.0.q": pytest.approx(0.0, abs=1e-7)}


def test_tiny_and_huge_updates_survive():
    for size in (1e-12, 1e12):
        adapter = Adapter({"m.0.q": LoraPair(make(0).modules["m.0.q"].A, make(0).modules["m.0.q"].B * size)}, "base")
        modules, _ = combine([adapter, adapter], [0.5, 0.5])
        assert_updates(modules, oracle([adapter], [1.0]))


def test_factor_is_the_average_of_the_factors_and_states_its_gap():
    adapters = [make(seed, scaling=1.5) for seed in range(3)]
    weights = np.array([0.5, 0.3, 0.2])
    modules, errors = combine(adapters, weights, method="factor")
    for module, matrix in oracle(adapters, weights).items():
        A, B = (sum(w * getattr(a.modules[module], half).astype(float) for w, a in zip(weights, adapters, strict=True))
                for half in "AB")  # fmt: skip
        assert_updates({module: modules[module]}, {module: 1.5 * B @ A})
        gap = np.linalg.norm(1.5 * B @ A - matrix) / np.linalg.norm(matrix)
        assert errors[module] == pytest.approx(gap, rel=1e-6)  # the factors are summed in float32
        assert gap > 0.1  # the cross-terms of independent adapters


def test_same_adapters_same_numbers():
    one, _ = combine([make(0), make(1)], [0.4, 0.6])
    two, _ = combine([make(0), make(1)], [0.4, 0.6])
    for module, pair in one.items():
        assert pair.A.tobytes() == two[module].A.tobytes()
        assert pair.B.tobytes() == two[module].B.tobytes()


def test_the_fallback_of_the_svd(monkeypatch):
    adapters, weights = [make(0), make(1)], [0.4, 0.6]
    expected, _ = combine(adapters, weights)

    def never(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", never)
    modules, _ = combine(adapters, weights)
    monkeypatch.undo()
    assert_updates(modules, {module: update(pair) for module, pair in expected.items()})


def test_terms_with_one_a_are_added_up_exactly_at_their_own_rank():
    """Signed weights of any sum, scalings that differ; a rank below theirs still cuts to the best."""
    rng = np.random.default_rng(5)
    A = rng.normal(size=(4, 30)).astype(np.float32)
    pairs = [LoraPair(A, rng.normal(size=(20, 4)).astype(np.float32), 0.5 + i) for i in range(50)]
    weights = rng.normal(size=50)
    expected = sum(w * p.delta().astype(float) for w, p in zip(weights, pairs, strict=True))
    found, error = delta(pairs, weights, 4)
    np.testing.assert_allclose(found.delta(), expected, rtol=1e-4, atol=1e-3)
    assert error < 1e-6
    assert found.rank == 4
    singular = np.linalg.svd(expected, compute_uv=False)
    cut, error = delta(pairs, weights, 2)
    assert np.linalg.norm(cut.delta() - expected) == pytest.approx(np.linalg.norm(singular[2:]), rel=1e-4)
    assert error == pytest.approx(np.linalg.norm(singular[2:]) / np.linalg.norm(singular), rel=1e-4)
