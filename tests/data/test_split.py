"""The split: by the row's hash alone, so that no row is trained on and measured with, whatever stands around it."""

from __future__ import annotations

import hashlib
import random

import pytest

from lorameta.data import Example
from lorameta.errors import DataError
from lorameta.training import part_of, split_examples

ROWS = [Example(f"prompt {i}", (f"answer {i % 7}",)) for i in range(600)]


def bucket(example: Example) -> int:
    """The rule of the embedded bank's recipe, written again."""
    text = example.input + "\0" + example.outputs[0]
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100


def test_parts_are_those_of_the_recipe():
    parts = split_examples(ROWS)
    assert {row.input for row in parts.train} == {row.input for row in ROWS if bucket(row) < 80}
    assert {row.input for row in parts.validation} == {row.input for row in ROWS if 80 <= bucket(row) < 88}
    assert {row.input for row in parts.test} == {row.input for row in ROWS if bucket(row) >= 88}
    assert parts.counts() == {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)}


def test_shares_are_80_8_and_12_percent():
    counts = split_examples(ROWS).counts()
    for part, share in (("train", 0.8), ("validation", 0.08), ("test", 0.12)):
        assert counts[part] / len(ROWS) == pytest.approx(share, abs=0.04)


def test_order_of_the_rows_changes_nothing():
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    assert split_examples(shuffled) == split_examples(ROWS)


def test_copies_stay_together():
    parts = split_examples(ROWS[:50] * 3)
    found = [set(part) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, found)) == 50
    assert sum(parts.counts().values()) == 150


def test_a_row_stays_in_its_part_when_others_come():
    before, after = split_examples(ROWS[:300]), split_examples(ROWS)
    for part in ("train", "validation", "test"):
        assert set(getattr(before, part)) <= set(getattr(after, part))
        assert {part_of(row) for row in getattr(after, part)} == {part}


@pytest.mark.parametrize("count", range(2, 12))
@pytest.mark.parametrize("part", ["train", "validation", "test", None])
def test_small_datasets_have_rows_to_learn_from_and_to_choose_by(count, part):
    rows = [row for row in ROWS if part is None or part_of(row) == part][:count] * 2
    parts = split_examples(rows)
    assert parts.train
    assert parts.validation
    assert not set(parts.train) & set(parts.validation)
    assert not set(parts.train) & set(parts.test)
    assert sum(parts.counts().values()) == len(rows)


@pytest.mark.parametrize("rows", [[], [ROWS[0]], [ROWS[0]] * 9])
def test_one_row_is_too_few(rows):
    with pytest.raises(DataError, match="different row"):
        split_examples(rows)
