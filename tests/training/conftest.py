"""The miniature base, and one of its adapters."""

from __future__ import annotations

import pytest

from lorameta.adapter import Adapter


@pytest.fixture(scope="session")
def given(tiny_bank) -> Adapter:
    return Adapter.from_pretrained(tiny_bank / "adapters" / "thing_colour")


@pytest.fixture(scope="session")
def where(tiny_bank) -> str:
    return str(tiny_bank / "base")
