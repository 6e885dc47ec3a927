"""Answers behind scores: which are shown, and labels against labels."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.data import Example
from lorameta.evaluate import Scores
from lorameta.report.answers import OTHER, answers, answers_text, chosen, confusion, confusion_table


def scored(wanted: list[str], said: list[str]) -> tuple[list[Example], Scores]:
    examples = [Example(f"Sort it.\n\nInput: {i}\n\nOutput:", (label,)) for i, label in enumerate(wanted)]
    exact = [float(a == b) for a, b in zip(wanted, said, strict=True)]
    rows = len(wanted)
    by_row = {"exact_match": exact, "rouge_l": exact, "loss": [1.0] * rows, "tokens": [2.0] * rows}
    return examples, Scores(rows, sum(exact) / rows, sum(exact) / rows, 0.5, said, by_row)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("abx")), min_size=1, max_size=30))
def test_a_confusion_counts_every_row_once(pairs):
    wanted, said = map(list, zip(*pairs, strict=True))
    examples, score = scored(wanted, said)
    found = confusion(examples, said)
    if len(set(wanted)) < 2 or len(wanted) < 4:
        assert found is None
        return
    assert sum(map(sum, found["counts"])) == len(pairs)
    assert [sum(row) for row in found["counts"]] == [Counter(wanted)[label] for label in found["labels"]]
    right = sum(found["counts"][i][i] for i in range(len(found["labels"])))
    assert right == sum(score.by_row["exact_match"])
    assert found["columns"][-1] == OTHER
    assert confusion_table(found)


def test_free_text_has_no_confusion():
    wanted = [f"sentence {i}" for i in range(30)]
    assert confusion(*(scored(wanted, wanted)[0], wanted)) is None


@pytest.mark.parametrize("right", [0, 1, 5, 12])
def test_some_wrong_and_some_right_answers_are_shown_with_their_rows(right):
    examples, score = scored(["a"] * 12, ["a"] * right + ["b"] * (12 - right))
    rows = answers(examples, {"base": score})
    shown = chosen(rows, "base")
    assert sum(row["right"] for row in shown) == min(3, right)
    assert sum(not row["right"] for row in shown) == min(3, 12 - right)
    assert [row["right"] for row in shown] == sorted(row["right"] for row in shown)
    for row in shown:
        assert row["prompt"] == examples[row["row"] - 1].input
    assert "Sort it" not in answers_text(rows, examples, "base")
