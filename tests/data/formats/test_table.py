"""Damaged tables: every bad row is named by its line."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorameta.data import Example, load_examples
from lorameta.errors import DataError


class TestBadTables:
    def test_lines_are_counted_through_quoted_line_ends(self, write):
        path = write("a.csv", 'input,output\r\n"one\r\ntwo\r\nthree",x\r\na,b,c\r\n"d\r\ne"\r\nf,\r\n')
        with pytest.raises(DataError) as caught:
            load_examples(path)
        message = str(caught.value)
        assert f"{path}:5: the row has 3 fields, the header has 2 (input, output)" in message
        assert f"{path}:6: the row has 1 field, the header has 2" in message
        assert f"{path}:8: `output` is empty" in message
        assert message.count("  - ") == 3

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('input,output\na,b\n"c,d\ne,f\n', r"a.csv:3: a quote that opens in this row is never closed"),
            ('input,output\na,b\n"c"x,d\n', r"a.csv:3: text follows a closing quote"),
            ("input,output,input\na,b,c\n", r"a.csv: the header has the column 'input' more than once"),
            ("input,output\n", r"a.csv holds no rows"),
            ("how do I pay?,banking\nhelp,work\n", r"a.csv:2: no input column; columns here: how do I pay\?, banking"),
        ],
    )
    def test_csv(self, write, content, message):
        with pytest.raises(DataError, match=message):
            load_examples(write("a.csv", content))

    def test_csv_written_by_pandas_with_its_index_and_spaces_in_the_header(self, write):
        assert load_examples(write("a.csv", ",input, output\n0,a,b\n1,c, d\n")) == [
            Example("a", ("b",)),
            Example("c", ("d",)),
        ]

    def test_parquet(self, tmp_path):
        path = tmp_path / "a.parquet"
        rows = [{"input": "a", "output": "b"}] * 3000 + [{"input": None, "output": "b"}, {"input": "c", "output": None}]
        pq.write_table(pa.Table.from_pylist(rows), path)
        with pytest.raises(DataError, match=r"(?s)a.parquet: row 3001: `input` is null.*a.parquet: row 3002: `output`"):
            load_examples(path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DataError, match=r"a.parquet: the Parquet file is damaged or cut short"):
            load_examples(path)
        pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["input", "input"]), path)
        with pytest.raises(DataError, match=r"the column 'input' is there more than once"):
            load_examples(path)
