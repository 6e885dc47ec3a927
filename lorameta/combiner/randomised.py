"""The best rank-r approximation of a sum of many adapters, found by a randomised block Krylov method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.combiner.terms import Terms

OVERSAMPLING = 8
STEPS = 3
PROBES = 16
SEED = 20250702


def randomised(terms: Terms, weights: np.ndarray, rank: int) -> tuple[LoraPair, float]:
    """Cut Σ w_i ΔW_i to `rank` from products with a few vectors alone, reading the factors in blocks.

    With ΔW = Σ w_i s_i B_i A_i and a Gaussian Ω of r + 8 columns, Q is an orthonormal basis of the block Krylov space
    of ΔWΩ, (ΔWΔWᵀ)ΔWΩ, …, three powers of it (Musco, Musco 2015, arXiv 1504.05477), and the SVD of the small QᵀΔW is
    cut. Eight passes over the factors, 2 (d_out + d_in) K flops per column and pass, memory O((d_out + d_in) r):
    neither a d_out × d_in matrix nor all factors are ever held. Products in float32, bases in float64.

    Parameters
    ----------
    terms : Terms
    weights : numpy.ndarray of shape (k,)
        Any sign.
    rank : int
        At least 1; the result has min(rank, K, d_out, d_in).

    Returns
    -------
    LoraPair
        As :func:`lorameta.combiner.delta.delta` gives it.
    float
        Relative error ‖result − ΔW‖ / ‖ΔW‖ in Frobenius norm. What Q misses of ΔW enters by its product with 16 random
        vectors of their own (as in Hutch++, arXiv 2010.09649), an unbiased estimate of its square.
    """
    from lorameta.combiner.delta import signed

    factors = terms.factors(weights).astype(np.float32)
    d_out, d_in = terms.shape
    cut = min(rank, terms.summed_rank, d_out, d_in)
    width = min(cut + OVERSAMPLING, d_out, d_in)
    draw = np.random.default_rng(SEED).standard_normal((d_in, width + PROBES))
    images = _times(terms, factors, draw)
    probed = images[:, width:]
    basis = [np.linalg.qr(images[:, :width])[0]]
    while len(basis) <= STEPS and len(basis) * width < min(d_out, d_in):
        last = np.linalg.qr(_times_transposed(terms, factors, basis[-1]))[0]
        basis.append(np.linalg.qr(_times(terms, factors, last))[0])
    Q = np.linalg.qr(np.concatenate(basis, axis=1))[0]
    U, S, Vt = np.linalg.svd(_times_transposed(terms, factors, Q).T, full_matrices=False)
    missed = float(np.square(probed - Q @ (Q.T @ probed)).sum()) / PROBES
    root = np.sqrt(S[:cut])
    total, tail = float(S @ S) + missed, float(S[cut:] @ S[cut:]) + missed
    return signed(Q @ (U[:, :cut] * root), root[:, None] * Vt[:cut], cut), float(
        np.sqrt(tail / total)
    ) if total else 0.0


def relative_gap(terms: Terms, weights: np.ndarray, pair: LoraPair) -> float:
    """‖pair − Σ w_i ΔW_i‖ / ‖Σ w_i ΔW_i‖, estimated from the products of both with 16 random vectors, in one pass."""
    draw = np.random.default_rng(SEED).standard_normal((terms.shape[1], PROBES))
    wanted = _times(terms, terms.factors(weights).astype(np.float32), draw)
    made = pair.scaling * (pair.B.astype(np.float64) @ (pair.A @ draw))
    gap, size = float(np.linalg.norm(made - wanted)), float(np.linalg.norm(wanted))
    return gap / size if size > 0 else float("inf") if gap > 0 else 0.0


def _times(terms: Terms, factors: np.ndarray, X: np.ndarray) -> np.ndarray:
    """ΔW X."""
    return _pass(terms, terms.shape[0], X, lambda some, Bt, A, X: Bt.T @ (factors[some, None] * (A @ X)))


def _times_transposed(terms: Terms, factors: np.ndarray, X: np.ndarray) -> np.ndarray:
    """ΔWᵀ X."""
    return _pass(terms, terms.shape[1], X, lambda some, Bt, A, X: A.T @ (factors[some, None] * (Bt @ X)))


def _pass(terms: Terms, d: int, X: np.ndarray, product: Callable[..., np.ndarray]) -> np.ndarray:
    single = X.astype(np.float32)
    result = np.zeros((d, X.shape[1]))
    for some, Bt, A in terms.blocks():
        result += product(some, Bt, A, single)
    return result
