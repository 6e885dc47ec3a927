"""Damaged JSON: every bad row is named by its line."""

from __future__ import annotations

import pytest

from lorameta.data import load_examples
from lorameta.errors import DataError
from tests.data.rows import GOOD


class TestBadJson:
    def test_rows_of_a_list_know_their_line(self, write):
        path = write(
            "a.json", '[\n  {"input": "a", "output": "b"},\n\n  {"input": "c"},\n  5,\n  {"input": "d" "e"}\n]'
        )
        with pytest.raises(DataError) as caught:
            load_examples(path)
        message = str(caught.value)
        assert f"{path}:4: no output column" in message
        assert f"{path}:5: the row is a number" in message
        assert f"{path}:6: broken JSON at column 17" in message
        assert message.count("  - ") == 3

    def test_rows_inside_an_object_know_their_line(self, write):
        rows = '{"version": 1,\n "data": [\n  {"input": "a", "output": "b"},\n  {"input": "c"}\n]}\n'
        with pytest.raises(DataError, match=r"a.json:4: no output column"):
            load_examples(write("a.json", rows))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("[]", "holds no rows"),
            ('{"data": []}', "holds no rows"),
            ("{}", "a.json:1: the row is an empty object"),
            ('"text"', r"a.json:1: broken JSON at column 1: Expecting '\[' or '\{'"),
            ('[{"input": "a", "output": "b"},]', "a.json:1: broken JSON"),
            ('[{"input": "a", "output": "b"}', "a.json:1: broken JSON at column 31: Expecting ',' or ']'"),
            ('[{"input": "a", "output": "b"}] x', "text after the end"),
            ('{"a": [{"x": 1}], "b": [{"x": 1}]}', "several lists of rows"),
            ('{"data": [{"input": "a"}], "data": []}', "'data' appears twice"),
            ('{"train": {"input": "a"}}', "a.json:1: no input column; columns here: train"),
            ('{"input" "a"}', "a.json:1: broken JSON at column 10: Expecting ':'"),
            ("{1: 2}", "a.json:1: broken JSON at column 2: Expecting a key"),
            ("[" * 100_000, "nested too deeply"),
        ],
    )
    def test_json(self, write, content, message):
        with pytest.raises(DataError, match=message):
            load_examples(write("a.json", content))

    def test_deep_nesting_in_one_line(self, write):
        path = write("a.jsonl", GOOD + b'{"input": ' + b"[" * 100_000 + b"\n" + GOOD)
        with pytest.raises(DataError, match=r"a.jsonl:2: the JSON is nested too deeply"):
            load_examples(path)
