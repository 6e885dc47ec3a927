"""The cosine distance of mean sentence embeddings."""

from __future__ import annotations

import numpy as np

from lorameta.distance.registry import Distance
from lorameta.encoder.summary import DatasetSummary, Summaries


def cosine(mean: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Compute the cosine distance 1 - ⟨m, mᵢ⟩ / (‖m‖ ‖mᵢ‖) of the mean embeddings.

    Parameters
    ----------
    mean : numpy.ndarray of shape (d,)
    means : numpy.ndarray of shape (N, d)

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        In [0, 2]; 1 where a mean is the zero vector, which points nowhere.

    Notes
    -----
    Computed as ½ ‖m/‖m‖ - mᵢ/‖mᵢ‖‖², which is equal and loses no digits near 0. Its square root is a metric on
    directions; the distance itself is not.

    Examples
    --------
    >>> import numpy as np
    >>> cosine(np.array([1.0, 0.0]), np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    array([0., 1., 2.])
    """
    ours, theirs = _directions(mean), _directions(means)
    distance = np.square(ours - theirs).sum(axis=-1) / 2
    # A zero vector is no direction; the formula above would give ½, or 0 for two of them.
    return np.where(ours.any() & theirs.any(axis=-1), np.minimum(distance, 2.0), 1.0)


def _directions(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms != 0)


def _of_summaries(target: DatasetSummary, bank: Summaries) -> np.ndarray:
    return cosine(target.part("sentence")[0], bank.part("sentence")[0])


COSINE = Distance(
    "cosine",
    "sentence",
    _of_summaries,
    metric=False,
    doc="cosine distance of their mean sentence embeddings",
    root_metric=True,
)
