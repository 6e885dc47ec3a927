"""`delta`: the best rank-r approximation of Σ w_i ΔW_i, without forming a d_out × d_in matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.combiner.average import on_one_a
from lorameta.combiner.randomised import randomised
from lorameta.combiner.stack import stack
from lorameta.combiner.terms import Terms

#: Summed rank up to which the approximation is exact. Its cost grows with K² (d_out + d_in) + K³: at 1,024 and 4,096
#: inputs a module takes about a second on one core, at 8,032 it would take hours for a whole model.
EXACT_RANK = 1024
#: The sum must be this much larger than what rounding makes of the Gram matrices' roots, else QR takes their place.
SAFE = 1e5


def delta(pairs: Sequence[LoraPair], weights: np.ndarray, rank: int) -> tuple[LoraPair, float]:
    """Mix the updates of one module exactly, then cut to `rank`.

    With B A = Σ w_i s_i B_i A_i, Bᵀ = Q_B R_B and A = (Q_A R_A)ᵀ, the singular values of the small core
    R_B R_Aᵀ = U S Vᵀ are those of the sum, so cutting the core is cutting the sum (Eckart, Young 1936; "Core Space",
    arXiv 2509.17786). The factors follow from Q_B U = B R_Aᵀ V / S and (Q_A V)ᵀ = Uᵀ R_B A / S, which spares both Q.
    R comes from the Gram matrix BᵀB = RᵀR, which takes much less time than a QR decomposition but squares the
    singular values: what it loses is at most √(K ε) of the size of the factors, about 1e-7. Where the terms cancel so
    far that this could be seen in the sum, QR it is. Terms with one common A are added up on it first. Cost
    O((d_out + d_in) K² + K³) for ranks that sum to K, up to K = `EXACT_RANK`; beyond, see
    :func:`lorameta.combiner.randomised.randomised`.

    Parameters
    ----------
    pairs : sequence of LoraPair
        Of one module, of equal shape; ranks and scalings may differ.
    weights : numpy.ndarray of shape (k,)
        Any sign.
    rank : int
        At least 1; the result has min(rank, K, d_out, d_in).

    Returns
    -------
    LoraPair
        Scaling 1, balanced (BᵀB = AAᵀ = Σ), signs fixed: the largest entry of each column of B is positive.
    float
        √(Σ_{j>r} σ_j² / Σ_j σ_j²), in [0, 1]: the relative error of the cut in Frobenius norm.

    Examples
    --------
    Two orthogonal updates of equal norm: rank 2 holds both, rank 1 one of them.

    >>> import numpy as np
    >>> from lorameta.adapter import LoraPair
    >>> pairs = [LoraPair(np.eye(1, 3, k), np.eye(2)[:, [k]]) for k in range(2)]
    >>> made, error = delta(pairs, np.array([0.5, 0.5]), rank=2)
    >>> bool(np.allclose(made.delta(), [[0.5, 0, 0], [0, 0.5, 0]])), round(error, 6)
    (True, 0.0)
    >>> round(delta(pairs, np.array([0.5, 0.5]), rank=1)[1], 4)
    0.7071
    """
    terms = Terms.of(pairs)
    if (merged := on_one_a(terms, weights)) is not None:  # of their rank, however many they are
        terms, weights = Terms.of([merged]), np.ones(1)
    if terms.summed_rank > EXACT_RANK:
        return randomised(terms, weights, rank)
    Bt, A = stack(terms, weights)
    R_B, R_A, noise = _roots(Bt, A)
    U, S, Vt = _svd(R_B @ R_A.T)
    if np.linalg.norm(S) < SAFE * noise:
        R_B, R_A = (np.asarray(np.linalg.qr(wide.T, mode="r")) for wide in (Bt, A))
        U, S, Vt = _svd(R_B @ R_A.T)
        noise = np.finfo(S.dtype).eps * max(terms.shape) * float(np.linalg.norm(R_B) * np.linalg.norm(R_A))
    S[noise >= S] = 0.0  # what rounding leaves of singular values that are zero
    cut = min(rank, terms.summed_rank, *terms.shape)
    total, tail = float(S @ S), float(S[cut:] @ S[cut:])
    root = np.sqrt(np.divide(1.0, S[:cut], out=np.zeros_like(S[:cut]), where=S[:cut] > 0))
    left, right = Bt.T @ (R_A.T @ (Vt[:cut].T * root)), ((root[:, None] * U[:, :cut].T) @ R_B) @ A
    return signed(left, right, cut), float(np.sqrt(tail / total)) if total > 0 else 0.0


def signed(left: np.ndarray, right: np.ndarray, rank: int) -> LoraPair:
    """Return the pair of two balanced factors, padded with zeros to `rank`; the largest entry of each column of B
    positive."""
    signs = np.where(left[np.argmax(np.abs(left), axis=0), np.arange(left.shape[1])] < 0, -1.0, 1.0)
    missing = rank - left.shape[1]
    return LoraPair(
        A=np.pad(signs[:, None] * right, ((0, missing), (0, 0))), B=np.pad(left * signs, ((0, 0), (0, missing)))
    )


def _roots(Bt: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """R_B and R_A with R_BᵀR_B = BᵀB and R_AᵀR_A = AAᵀ, and what rounding may have added to R_B R_Aᵀ.

    A side with no more than K entries a row is its own root. Before the root of the Gram matrix is taken, the K
    rank-one terms are balanced, ‖b‖ = ‖a‖, so that a badly scaled pair of factors costs no digits.
    """
    K, eps = len(A), float(np.finfo(A.dtype).eps)
    grams = [part @ part.T if part.shape[1] > K else None for part in (Bt, A)]
    squares = [
        np.diag(gram) if gram is not None else np.einsum("kd,kd->k", part, part)
        for gram, part in zip(grams, (Bt, A), strict=True)
    ]
    product = squares[0] * squares[1]
    balance = np.divide(squares[1], squares[0], out=np.ones(K), where=product > 0) ** 0.25  # b ↦ b s and a ↦ a / s
    size, exact = float(np.sqrt(product).sum()), True
    roots = []
    for gram, part, s in zip(grams, (Bt, A), (balance, 1 / balance), strict=True):
        if gram is None:
            roots.append(part.T)
            continue
        exact = False
        values, vectors = np.linalg.eigh(s[:, None] * gram * s)
        kept = values > K * eps * values[-1]
        roots.append(np.sqrt(values[kept])[:, None] * vectors[:, kept].T / s)
    return roots[0], roots[1], (eps * K if exact else float(np.sqrt(K * eps))) * size


def _svd(core: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        U, S, Vt = np.linalg.svd(core, full_matrices=False)
    except np.linalg.LinAlgError:  # the fast divide-and-conquer driver can fail to converge where QR iteration does not
        from scipy.linalg import svd

        U, S, Vt = svd(core, full_matrices=False, lapack_driver="gesvd")
    return U, S, Vt
