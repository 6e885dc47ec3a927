"""A base and an adapter of it, as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.merged_base import SHAPES, write_base
from tests.export.models import factors_for
from tests.peft_helpers import write_peft


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_peft(tmp_path / "adapter", factors_for(SHAPES))
