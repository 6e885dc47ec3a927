"""The demonstration's data: balanced, apart, in the bank's form, and what its README says."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import product

import pytest

from lorameta import examples
from lorameta.data import load_examples
from lorameta.errors import UsageError

DEFINITION = "Which desk should answer the message: banking, credit cards, travel, kitchen, home, work?"
LABELS = DEFINITION.rstrip("?").split(": ")[1].split(", ")
PARTS = {"helpdesk_train.jsonl": 25, "helpdesk_test.jsonl": 10}


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in examples.path(name).read_text(encoding="utf-8").splitlines()]


def words(message: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", message.lower().replace("'", ""))


@pytest.mark.parametrize(("name", "per_label"), PARTS.items())
def test_every_label_of_the_definition_is_there_equally_often(name, per_label):
    assert Counter(row["output"] for row in rows(name)) == dict.fromkeys(LABELS, per_label)
    assert {row["instruction"] for row in rows(name)} == {DEFINITION}


@pytest.mark.parametrize("name", PARTS)
def test_messages_are_short(name):
    assert all(5 <= len(row["input"].split()) <= 20 for row in rows(name))


def test_no_message_is_there_twice_and_none_is_near_another_of_the_other_part():
    messages = [" ".join(words(row["input"])) for name in PARTS for row in rows(name)]
    assert len(set(messages)) == len(messages) == 210
    train, test = ([set(words(row["input"])) for row in rows(name)] for name in PARTS)
    assert max(len(a & b) / len(a | b) for a, b in product(train, test)) <= 0.5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PARTS)
def test_loads_in_the_form_of_the_bank(name):
    loaded = load_examples(examples.path(name))
    for example, row in zip(loaded, rows(name), strict=True):
        assert example.input == f"Definition: {DEFINITION}\n\nInput: {row['input']}\n\nOutput:"
        assert example.outputs == (row["output"],)


def test_labels_do_not_come_in_blocks():
    labels = [row["output"] for row in rows("helpdesk_train.jsonl")]
    assert set(labels[:30]) == set(LABELS)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'helpdesk'; there are helpdesk_test.jsonl, helpdesk_train.jsonl"):
        examples.path("helpdesk")
    with pytest.raises(UsageError):
        examples.path("../data.py")
