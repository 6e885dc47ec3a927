"""A bank of four adapters, written once and copied for each test that asks for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorameta.bank import write_bank
from tests.bank.parts import parts_of


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("built") / "bank"
    write_bank(root, **parts_of(root))
    return root


@pytest.fixture
def root(built, tmp_path) -> Path:
    """A bank of four adapters that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "bank"))
