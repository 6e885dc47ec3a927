"""How far an adapter moves when its dataset moves: ‖ΔW(P) − ΔW(Q)‖ ≤ ρ(P, Q) max ‖ΔW_n‖ / T for a metric ρ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lorameta.adapter import Adapter, LoraPair
from lorameta.combiner import combine
from lorameta.distance import distances
from lorameta.encoder import DatasetSummary, Summaries
from lorameta.operator import mixing_weights

VOCABULARY = 101
OUT, IN = 5, 4
#: name → (key of lorameta.distance, what is done to its values so that a metric comes out)
METRICS = {
    "root of js": ("js", np.sqrt),
    "root of mmd": ("mmd", np.sqrt),
    "wasserstein": ("wasserstein", np.asarray),
}


def dataset(counts: np.ndarray) -> DatasetSummary:
    return DatasetSummary(1, token_counts=np.asarray(counts, dtype=np.int64))


def bank_of(counts: np.ndarray) -> Summaries:
    return Summaries.from_list([f"a{i}" for i in range(len(counts))], [dataset(row) for row in counts])


def random_counts(rng: np.random.Generator) -> np.ndarray:
    """Few tokens or many, rare or even: Dirichlet draws of very different evenness."""
    law = rng.dirichlet(np.full(VOCABULARY, 10 ** rng.uniform(-2, 1)))
    counts = rng.multinomial(int(10 ** rng.uniform(0, 4)), law)
    return counts


def adapters_of(rng: np.random.Generator, count: int) -> list[Adapter]:
    scales = 10 ** rng.uniform(-1, 1, size=count)
    return [
        Adapter({"m": LoraPair(rng.normal(size=(2, IN)), scale * rng.normal(size=(OUT, 2)))}, "base")
        for scale in scales
    ]


def adapter_for(row: np.ndarray, adapters: list[Adapter], temperature: float) -> np.ndarray:
    """The mixture as the library makes it, dense."""
    weights = mixing_weights(row, "attentional", temperature=temperature)
    modules, _ = combine(adapters, weights, method="concat")
    return modules["m"].delta().astype(np.float64)


@given(st.data(), st.integers(1, 40), st.floats(0.05, 20))
def test_softmin_moves_at_most_as_far_as_its_distances(data, n, temperature):
    elements = st.floats(-30, 30, width=32)
    d, other = (data.draw(arrays(np.float64, n, elements=elements)) for _ in range(2))
    w, v = (mixing_weights(row, "attentional", temperature=temperature) for row in (d, other))
    assert np.abs(w - v).sum() <= np.abs(d - other).max() / temperature + 1e-12


@pytest.mark.parametrize("n", [2, 20, 200])
def test_the_constant_of_softmin_is_the_best_for_every_size_of_bank(n):
    """Half of the distances up, half down: ‖w − w′‖₁ = tanh(δ / T), as near to δ / T as one likes."""
    signs = np.repeat([1.0, -1.0], n // 2)
    delta, temperature = 0.03, 0.6
    w, v = (mixing_weights(row, "attentional", temperature=temperature) for row in (0 * signs, delta * signs))
    moved = np.abs(w - v).sum()
    assert moved == pytest.approx(math.tanh(delta / temperature))
    assert moved > 0.999 * delta / temperature


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 200), near=st.booleans(), log_t=st.floats(-2, 2))
def test_dataset_to_adapter_is_lipschitz_whatever_the_size_of_the_bank(metric, seed, n, near, log_t):
    rng = np.random.default_rng(seed)
    name, transform = METRICS[metric]
    bank, adapters = bank_of(np.array([random_counts(rng) for _ in range(n)])), adapters_of(rng, n)
    counts = random_counts(rng)
    other = random_counts(rng) if not near else counts + rng.multinomial(1 + counts.sum() // 20, counts / counts.sum())
    P, Q = dataset(counts), dataset(other)
    rows = [transform(distances(target, bank, name)) for target in (P, Q)]
    apart = float(transform(distances(P, bank_of(other[None]), name))[0])
    assert np.abs(rows[0] - rows[1]).max() <= apart + 1e-6  # the inverse triangle inequality, all that ρ must give

    temperature = 10**log_t * max(float(np.median(rows[0])), 1e-3)
    largest = max(adapter.norm() for adapter in adapters)
    moved = np.linalg.norm(adapter_for(rows[0], adapters, temperature) - adapter_for(rows[1], adapters, temperature))
    assert moved <= apart * largest / temperature + 1e-5 * largest


@pytest.mark.parametrize("n", [2, 20, 200])
def test_a_bank_of_any_size_can_reach_the_bound(n):
    """Half the bank at token 0 with M, half at token 100 with −M; the dataset moves from token 50 to token 51."""
    counts = np.eye(VOCABULARY, dtype=np.int64)
    bank = bank_of(np.repeat(counts[[0, 100]], n // 2, axis=0))
    M = LoraPair(np.ones((1, IN)), np.ones((OUT, 1)))
    half = [Adapter({"m": M}, "base")] * (n // 2)
    opposite = [Adapter({"m": LoraPair(M.A, -M.B)}, "base")] * (n // 2)
    temperature = 20.0
    rows = [distances(dataset(counts[token]), bank, "wasserstein") for token in (50, 51)]
    before, after = (adapter_for(row, half + opposite, temperature) for row in rows)
    bound = 1.0 * M.norm() / temperature  # W₁ between neighbouring tokens is 1
    assert 0.999 * bound < np.linalg.norm(before - after) <= bound * (1 + 1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_js_as_it_is_moves_at_most_with_its_root(seed):
    """|JS(P, R) − JS(Q, R)| ≤ 2 √ln 2 · √JS(P, Q), so mixing by JS is Lipschitz for √JS, with that constant over T."""
    rng = np.random.default_rng(seed)
    counts, other = random_counts(rng), random_counts(rng)
    bank = bank_of(np.array([random_counts(rng) for _ in range(20)]))
    rows = [distances(dataset(c), bank, "js") for c in (counts, other)]
    apart = math.sqrt(distances(dataset(counts), bank_of(other[None]), "js")[0])
    assert np.abs(rows[0] - rows[1]).max() <= 2 * math.sqrt(math.log(2)) * apart + 1e-9


def ratio(name: str, counts: list[int], other: list[int], temperature: float = 1.0) -> float:
    """‖ΔW(P) − ΔW(Q)‖ over the bound, for a bank of two opposite adapters of one token and of two.

    The dearer of both directions stands for ρ(P, Q).
    """
    bank = bank_of(np.array([[1, 0], [1, 1]]))
    M = LoraPair(np.ones((1, IN)), np.ones((OUT, 1)))
    adapters = [Adapter({"m": M}, "base"), Adapter({"m": LoraPair(M.A, -M.B)}, "base")]
    P, Q = dataset(np.array(counts)), dataset(np.array(other))
    rows = [distances(target, bank, name) for target in (P, Q)]
    moved = np.linalg.norm(adapter_for(rows[0], adapters, temperature) - adapter_for(rows[1], adapters, temperature))
    there, back = (distances(x, bank_of(y.token_counts[None]), name)[0] for x, y in ((P, Q), (Q, P)))
    return float(moved * temperature / (max(there, back) * M.norm()))


def test_kl_breaks_the_bound():
    """One token in a hundred more that the nearest dataset lacks costs ln(1/ε) ≈ 23 nats a share."""
    assert ratio("kl", [990, 10], [980, 20]) > 20


def test_no_constant_would_do_for_kl_nor_for_js_without_its_root():
    """Between near datasets both are quadratic in what the distances to the bank feel linearly."""
    for name in ("kl", "js"):
        steps = [ratio(name, [9000, 1000], [9000 - step, 1000 + step]) for step in (400, 40, 4)]
        assert steps[1] > 8 * steps[0]
        assert steps[2] > 8 * steps[1]
        assert steps[2] > 100
