"""Any text survives, no bytes raise anything else, memory, and what is warned of."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorameta.data import Example, load_examples
from lorameta.errors import DataError, LorametaWarning
from tests.data.rows import ROWS, jsonl, table


class TestWarnings:
    def test_one_row(self):
        with pytest.warns(LorametaWarning, match="only one row"):
            load_examples(ROWS[:1])

    def test_equal_rows(self):
        with pytest.warns(LorametaWarning, match="all 3 rows of the dataset are equal"):
            load_examples(ROWS[:1] * 3)

    @pytest.mark.filterwarnings("error")
    def test_none_otherwise(self):
        load_examples(ROWS)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: text.strip()
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=5, unique=True))
def test_any_text_survives_jsonl_and_json(tmp_path_factory, rows):
    directory = tmp_path_factory.mktemp("any")
    records = [{"input": prompt, "output": answer} for prompt, answer in rows]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (directory / "a.jsonl").write_bytes(lines.encode())
    (directory / "a.json").write_bytes(json.dumps(records, ensure_ascii=False).encode())
    expected = [Example(prompt, (answer.strip(),)) for prompt, answer in rows]
    assert load_examples(records) == expected
    assert load_examples(directory / "a.jsonl") == expected
    assert load_examples(directory / "a.json") == expected


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200), name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a"]))
@pytest.mark.filterwarnings("ignore::lorameta.errors.LorametaWarning")
def test_no_bytes_raise_anything_else(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(content)
    message = str(path)
    try:
        examples = load_examples(path, require_output=False)
    except DataError as error:
        message, examples = str(error), []
    assert str(path) in message
    assert all(example.input.strip() for example in examples)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_file_is_not_held_beside_its_rows(tmp_path, name):
    path = tmp_path / name
    rows = [[f"{number} {'x' * 2000}", "y"] for number in range(1000)]
    records = [dict(zip(("input", "output"), row, strict=True)) for row in rows]
    path.write_text(jsonl(*records) if name == "a.jsonl" else table([["input", "output"], *rows]))
    load_examples(path)  # what Python keeps of the first time does not count
    tracemalloc.start()
    examples = load_examples(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(examples) == 1000
    assert peak < 1.3 * path.stat().st_size


def test_bad_rows_take_no_memory(tmp_path):
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"".join(b'{"input": "%s%d"}\n' % (b"x" * 1000, number) for number in range(5000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="5000 rows"):
        load_examples(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
