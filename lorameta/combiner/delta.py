"""`delta`, the default: the best rank-r approximation of Σ w_i ΔW_i, without forming a d_out × d_in matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorameta.combiner.stack import stack
from lorameta.lora import LoraPair


def delta(pairs: Sequence[LoraPair], weights: np.ndarray, rank: int) -> tuple[LoraPair, float]:
    """Mix the updates of one module exactly, then cut to `rank`.

    With B A = Σ w_i s_i B_i A_i, B = Q_B R_B and Aᵀ = Q_A R_A, the singular values of the small core
    R_B R_Aᵀ = U S Vᵀ are those of the sum, so cutting the core is cutting the sum (Eckart, Young 1936; "Core Space",
    arXiv 2509.17786). The factors follow from Q_B U = B R_Aᵀ V / S and (Q_A V)ᵀ = Uᵀ R_B A / S, which spares both Q,
    the larger part of the work. Cost O((d_out + d_in) K² + K³) for ranks that sum to K.

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
    """
    B, A = stack(pairs, weights)
    R_B, R_A = (np.asarray(np.linalg.qr(wide, mode="r")) for wide in (B, A.T))
    U, S, Vt = _svd(R_B @ R_A.T)
    # What rounding leaves of singular values that are zero, also where the terms of the sum cancel.
    S[np.finfo(S.dtype).eps * max(len(B), A.shape[1]) * np.linalg.norm(R_B) * np.linalg.norm(R_A) >= S] = 0.0
    cut = min(rank, len(S))
    total, tail = float(S @ S), float(S[cut:] @ S[cut:])
    root = np.sqrt(np.divide(1.0, S[:cut], out=np.zeros(cut), where=S[:cut] > 0))
    left, right = B @ (R_A.T @ (Vt[:cut].T * root)), (root[:, None] * U[:, :cut].T) @ R_B @ A
    signs = np.where(left[np.argmax(np.abs(left), axis=0), np.arange(cut)] < 0, -1.0, 1.0)
    return LoraPair(A=signs[:, None] * right, B=left * signs), float(np.sqrt(tail / total)) if total > 0 else 0.0


def _svd(core: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        U, S, Vt = np.linalg.svd(core, full_matrices=False)
    except np.linalg.LinAlgError:  # the fast divide-and-conquer driver can fail to converge where QR iteration does not
        from scipy.linalg import svd

        U, S, Vt = svd(core, full_matrices=False, lapack_driver="gesvd")
    return U, S, Vt
