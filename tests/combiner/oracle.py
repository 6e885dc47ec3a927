"""Random adapters, and what their mixture must be: dense, in float64, sharing no code with the combiners."""

from __future__ import annotations

import numpy as np

from lorameta.adapter import Adapter, LoraPair

D_OUT, D_IN = 14, 11
MODULES = {"m.0.q": (D_OUT, D_IN), "m.0.k": (6, D_IN), "m.1.down": (D_IN, D_OUT)}
EXACT = ("delta", "concat")


def make(seed: int, *, rank: int = 3, scaling: float = 2.0, modules=MODULES, name: str = "") -> Adapter:
    rng = np.random.default_rng(seed)
    pairs = {
        module: LoraPair(rng.normal(size=(rank, d_in)), rng.normal(size=(d_out, rank)), scaling)
        for module, (d_out, d_in) in modules.items()
    }
    return Adapter(pairs, "base", name=name or f"a{seed}")


def update(pair: LoraPair) -> np.ndarray:
    """ΔW element by element, in float64."""
    return pair.scaling * np.einsum("or,ri->oi", pair.B.astype(np.float64), pair.A.astype(np.float64))


def oracle(adapters, weights) -> dict[str, np.ndarray]:
    """Σ w ΔW, dense."""
    total: dict[str, np.ndarray] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for module, pair in adapter.modules.items():
            total[module] = total.get(module, 0.0) + weight * update(pair)
    return total


def best(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, float]:
    """Best approximation of that rank, and its relative error, from the dense SVD."""
    U, S, Vt = np.linalg.svd(matrix, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ Vt[:rank], float(np.sqrt((S[rank:] ** 2).sum() / (S**2).sum()))


def assert_updates(modules: dict[str, LoraPair], expected: dict[str, np.ndarray], rtol: float = 2e-6) -> None:
    assert list(modules) == sorted(expected)
    for module, matrix in expected.items():
        scale = max(np.abs(matrix).max(), 1e-12)
        np.testing.assert_allclose(update(modules[module]), matrix, rtol=0, atol=rtol * scale, err_msg=module)
