"""`Example` is a value, and a dataset has a fingerprint."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest

from lorameta.data import Example, dataset_name, fingerprint, instruction_prompt, join_prompt
from tests.data.rows import EXAMPLES, ROWS


class TestExample:
    @pytest.mark.parametrize(
        ("prompt", "answer", "text"),
        [("a:", "b", "a: b"), ("a\n", "b", "a\nb"), ("a ", "b", "a b"), ("", "b", "b"), ("a", "", "a"), ("", "", "")],
    )
    def test_join_prompt(self, prompt, answer, text):
        assert join_prompt(prompt, answer) == text
        assert Example(prompt, (answer,)).text == text

    def test_first_output_counts(self):
        assert Example("a", ("b", "c")).output == "b"
        assert Example("a").output == ""
        assert Example("a").text == "a"

    def test_examples_are_values(self):
        example = Example("a", ("b",))
        assert pickle.loads(pickle.dumps(example)) == example
        assert hash(example) == hash(Example("a", ("b",)))
        with pytest.raises(AttributeError):
            example.input = "c"  # type: ignore[misc]

    def test_instruction_prompt(self):
        assert instruction_prompt("Do. ", " a\n") == "Definition: Do.\n\nInput: a\n\nOutput:"
        assert instruction_prompt("Do.", " ") == instruction_prompt("Do.") == "Definition: Do.\n\nOutput:"

    def test_dataset_name(self):
        assert dataset_name("data/tickets.v2.jsonl") == "tickets.v2"
        assert dataset_name(Path("tickets.csv")) == "tickets"
        assert dataset_name(ROWS) == "dataset"


class TestFingerprint:
    def test_order_does_not_matter_and_all_else_does(self):
        examples = [Example(f"row {number % 7}", (str(number % 3), "x")) for number in range(50)]
        shuffled = random.Random(1).sample(examples, len(examples))
        assert fingerprint(shuffled) == fingerprint(examples)
        others = [
            examples[1:],
            [*examples, examples[0]],
            [Example("row 0", ("x", "0")), *examples[1:]],
            [Example("row 0", ("0",)), *examples[1:]],
            [Example("row 0", ("0x",)), *examples[1:]],
            [],
        ]
        assert len({fingerprint(other) for other in [examples, *others]}) == 1 + len(others)
        assert len(fingerprint(examples)) == 64

    def test_is_the_same_tomorrow(self):
        assert fingerprint(EXAMPLES) == "66605f69c12d714487b00251ee5914c4bef79b03f0a3a7bf0c1b158371f5bb1c"
