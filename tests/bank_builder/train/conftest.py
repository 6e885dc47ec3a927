"""The small tasks, the miniature base, and the bank that was trained from them in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bank_builder.train.training import run, write_tasks


@pytest.fixture(scope="session")
def tasks(tmp_path_factory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks") / "t")


@pytest.fixture(scope="session")
def base(tiny_bank) -> Path:
    return tiny_bank / "base"


@pytest.fixture(scope="session")
def made(tasks, base, tmp_path_factory) -> Path:
    """A bank of the three tasks, trained in one go."""
    output = tmp_path_factory.mktemp("made") / "bank"
    found = run(tasks, base, output)
    assert found.failed == found.left_out == {}
    return output
