"""A random bank of eight datasets with both parts of the summaries."""

from __future__ import annotations

import os
from types import ModuleType

import numpy as np
import pytest

from lorameta.encoder import DatasetSummary, Summaries
from lorameta.encoder.sentence import moments


def summary(rng: np.random.Generator, vocabulary: int = 60, d: int = 12, k: int = 5) -> DatasetSummary:
    points = rng.normal(size=(30, d)) * rng.uniform(0.1, 2, size=d) + rng.normal(size=d)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    mean, factor, residual = moments(points.astype(np.float32), k)
    counts = rng.poisson(rng.gamma(0.3, size=vocabulary) * 9).astype(np.int64)
    counts[rng.integers(vocabulary)] += 1
    return DatasetSummary(30, counts, mean, factor, residual, points[:7].astype(np.float32))


@pytest.fixture(scope="session")
def bank() -> Summaries:
    rng = np.random.default_rng(0)
    return Summaries.from_list([f"a{i}" for i in range(8)], [summary(rng) for _ in range(8)])


@pytest.fixture(scope="session")
def target() -> DatasetSummary:
    return summary(np.random.default_rng(1))


@pytest.fixture(scope="session")
def ot() -> ModuleType:
    """POT, without the torch that it would load."""
    os.environ.setdefault("POT_BACKEND_DISABLE_PYTORCH", "1")
    return pytest.importorskip("ot", reason="POT is the oracle of the optimal transport distances")
