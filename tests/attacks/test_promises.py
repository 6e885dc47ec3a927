"""docs/security.md: each promise names the tests that hold it, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")
PROMISES = [
    line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ") and "cannot …" not in line
]


def test_each_promise_names_tests_that_are_there():
    assert len(PROMISES) >= 10
    for what, _, tests in PROMISES:
        names = re.findall(r"`([\w/]+\.py)`", tests)
        assert names, what
        folder = Path(names[0]).parent
        for name in names:
            path = TESTS / (name if "/" in name else folder / name)
            assert "def test_" in path.read_text(encoding="utf-8"), name


def test_every_attack_is_named_or_in_the_folder_that_is():
    named = set(re.findall(r"tests/[\w/]+", TEXT))
    assert "tests/attacks" in named
    for name in named:
        assert (TESTS.parent / name).exists() or (TESTS.parent / f"{name}.py").exists(), name
