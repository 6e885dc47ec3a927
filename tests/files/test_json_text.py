"""Reading JSON of strangers takes memory for what is there, not for what might be."""

import tracemalloc

import pytest

from lorameta.files import json_text


def test_a_small_file_takes_little_memory(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    tracemalloc.start()
    assert json_text.read(tmp_path / "a.json") == {"a": 1}
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < 1 << 20


def test_the_limit_is_that_of_the_caller(tmp_path):
    (tmp_path / "a.json").write_bytes(b"1" * 100)
    assert json_text.read_bytes(tmp_path / "a.json", 100) == b"1" * 100
    with pytest.raises(json_text.JsonError, match="more than the 99 bytes"):
        json_text.read_bytes(tmp_path / "a.json", 99)
