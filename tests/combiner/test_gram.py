"""The Gram matrix against dense float64 products, and for what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorameta.adapter import Adapter, LoraPair
from lorameta.combiner import gram as module
from lorameta.combiner.gram import gram
from lorameta.errors import BankError

SHAPES = {"q": (7, 5), "k": (3, 5), "v": (6, 9)}


def bank(seed: int, count: int, *, missing: bool = True) -> list[Adapter]:
    """Adapters of unequal ranks and scalings, some without some modules."""
    rng = np.random.default_rng(seed)
    adapters = []
    for number in range(count):
        modules = {}
        for name, (d_out, d_in) in SHAPES.items():
            if missing and rng.random() < 0.3:
                continue
            rank, alpha, rslora = int(rng.integers(1, 5)), float(rng.integers(1, 33)), rng.random() < 0.5
            scaling = alpha / (np.sqrt(rank) if rslora else rank)
            modules[name] = LoraPair(rng.normal(size=(rank, d_in)), rng.normal(size=(d_out, rank)), scaling)
        adapters.append(Adapter(modules, "base", name=f"a{number}"))
    return adapters


def flat(adapter: Adapter) -> np.ndarray:
    """The whole update as one dense float64 vector."""
    parts = []
    for name, shape in SHAPES.items():
        pair = adapter.modules.get(name)
        dense = np.zeros(shape) if pair is None else pair.scaling * pair.B.astype(float) @ pair.A.astype(float)
        parts.append(dense.ravel())
    return np.concatenate(parts)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 9), block=st.integers(1, 4))
@settings(max_examples=40)
def test_it_is_the_dense_frobenius_product(seed, count, block):
    adapters, others = bank(seed, count), bank(seed + 1, 4)
    dense, other = (np.array([flat(a) for a in found]) for found in (adapters, others))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found, crossed = gram(adapters), gram(adapters, others)
    np.testing.assert_allclose(found, dense @ dense.T, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(crossed, dense @ other.T, rtol=1e-10, atol=1e-9)
    np.testing.assert_array_equal(found, found.T)


def test_its_diagonal_is_the_squared_norm_and_its_eigenvalues_are_not_negative():
    adapters = bank(3, 12)
    found = gram(adapters)
    np.testing.assert_allclose(np.sqrt(np.diag(found)), [adapter.norm() for adapter in adapters], rtol=1e-12)
    assert np.linalg.eigvalsh(found).min() > -1e-9 * np.trace(found)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_the_gauge_does_not_matter(seed):
    """(M A, B M⁻¹) is the same update as (A, B), and so is twice alpha with half of B."""
    adapters, rng = bank(seed, 4), np.random.default_rng(seed)
    turned = []
    for adapter in adapters:
        modules = {}
        for name, pair in adapter.modules.items():
            M = np.linalg.qr(rng.normal(size=(pair.rank, pair.rank)))[0] * rng.uniform(0.5, 2)
            modules[name] = LoraPair(M @ pair.A, pair.B @ np.linalg.inv(M) / 2, 2 * pair.scaling)
        turned.append(Adapter(modules, "base", name=adapter.name))
    scale = np.abs(gram(adapters)).max() if any(a.modules for a in adapters) else 1.0
    np.testing.assert_allclose(gram(turned), gram(adapters), rtol=1e-5, atol=1e-5 * max(scale, 1.0))
    np.testing.assert_allclose(gram(turned, adapters), gram(adapters), rtol=1e-5, atol=1e-5 * max(scale, 1.0))


def test_permuting_the_bank_permutes_it():
    adapters, order = bank(5, 7), [3, 1, 6, 0, 2, 5, 4]
    np.testing.assert_allclose(
        gram([adapters[i] for i in order]), gram(adapters)[np.ix_(order, order)], rtol=1e-12, atol=1e-12
    )


def test_adapters_are_read_block_by_block():
    """A sequence that reads on demand is asked for one tile at a time, and never as a whole."""

    class Lazy(list):
        reads = 0

        def __getitem__(self, index):
            assert isinstance(index, int)
            Lazy.reads += 1
            return super().__getitem__(index)

        def __iter__(self):
            raise AssertionError("the whole bank was read")

    adapters = bank(6, module.BLOCK + 3)
    done: list[int] = []
    np.testing.assert_array_equal(gram(Lazy(adapters), progress=done.append), gram(adapters))
    assert Lazy.reads == len(adapters) + 3  # the second block once for the first row of tiles, once for its own
    assert done == [module.BLOCK, 3]


def test_other_shapes_are_named():
    adapters = bank(1, 3, missing=False)
    adapters[2].modules["q"] = LoraPair(np.ones((1, 4)), np.ones((7, 1)))
    with pytest.raises(BankError, match=r"a2, q: its update is \(7, 4\), that of a0 is \(7, 5\)"):
        gram(adapters)


def test_an_empty_bank_has_an_empty_matrix():
    assert gram([]).shape == (0, 0)
