"""A bank of adapters of five layouts, as directories and in shards; copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorameta.bank.sharding.stack import stack
from tests.bank.sharding.stack_helpers import MIXED, make_bank


@pytest.fixture(scope="session")
def mixed(tmp_path_factory) -> Path:
    return make_bank(tmp_path_factory.mktemp("mixed") / "bank", MIXED)


@pytest.fixture(scope="session")
def stacked(mixed, tmp_path_factory) -> Path:
    root = Path(shutil.copytree(mixed, tmp_path_factory.mktemp("stacked") / "bank"))
    stack(root)
    return root


@pytest.fixture
def root(mixed, tmp_path) -> Path:
    """A bank of directories that a test may change."""
    return Path(shutil.copytree(mixed, tmp_path / "bank"))


@pytest.fixture
def rows(stacked, tmp_path) -> Path:
    """The same bank in shards."""
    return Path(shutil.copytree(stacked, tmp_path / "rows"))
