"""What the tests of this room share: an adapter from random factors, and the check of its updates."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lorameta.adapter import Adapter, LoraPair

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def adapter_of(factors: dict, scaling: float = 2.0, **keywords) -> Adapter:
    return Adapter({module: LoraPair(A, B, scaling) for module, (A, B) in factors.items()}, "some/base", **keywords)


def assert_deltas(adapter: Adapter, expected: dict[str, np.ndarray], rtol: float = 1e-6) -> None:
    assert list(adapter.modules) == sorted(expected)
    for module, update in expected.items():
        np.testing.assert_allclose(adapter.modules[module].delta(), update, rtol=0, atol=rtol * np.abs(update).max())
