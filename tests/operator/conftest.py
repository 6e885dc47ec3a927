"""Passes over rows are in float32 here, as the numbers that they are compared with, on processors with AMX as well."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def passes_in_float32(monkeypatch):
    monkeypatch.setattr("lorameta.base_model.load.pass_dtype", lambda: None)
