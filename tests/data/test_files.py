"""Files as people have them: several, packed, tables with bare quotes, Parquet with columns that nobody can read."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorameta.data import Example, load_examples, read_examples
from lorameta.errors import DataError, LorametaWarning, UsageError


class TestSeveralFiles:
    @pytest.fixture
    def shards(self, tmp_path: Path) -> Path:
        for number in (1, 2, 10):
            with gzip.open(tmp_path / f"part{number}.jsonl.gz", "wt") as file:
                file.write(json.dumps({"input": f"{number}", "output": "b"}) + "\n")
        (tmp_path / "README.md").write_text("no rows")
        (tmp_path / ".hidden.jsonl").write_text("no rows")
        return tmp_path

    def test_a_folder_a_pattern_a_list(self, shards):
        for dataset in (shards, str(shards / "part*.gz"), sorted(shards.glob("part*"), key=lambda p: len(p.name))):
            found, report = read_examples(dataset)
            assert sorted(row.input for row in found) == ["1", "10", "2"]
            assert len(report.files) == 3
        assert [row.input for row in load_examples(shards)] == ["1", "2", "10"]
        with pytest.raises(DataError, match="no file fits"):
            load_examples(shards / "*.csv")

    def test_bad_rows_are_named_with_their_file(self, shards):
        (shards / "part3.csv").write_text("input\na\n")
        with pytest.raises(DataError, match=r"part3.csv:2: no output column"):
            load_examples(shards)

    def test_parts_are_not_read_together(self, tmp_path):
        for name in ("train-00000.jsonl", "test-00000.jsonl"):
            (tmp_path / name).write_text('{"input": "a", "output": "b"}\n' * 2)
        with pytest.raises(DataError, match=r"(?s)several parts.*test: test-00000.jsonl.*train: train"):
            load_examples(tmp_path)

    def test_the_same_rows_twice(self, shards):
        (shards / "part1.csv").write_text("input,output\na,b\n")
        with pytest.raises(DataError, match="seem to be the same rows"):
            load_examples(shards)

    @pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
    def test_compressed(self, tmp_path, kind):
        content = b"input\toutput\n" + b'"a\tb\nc\td\n' * 300
        path = tmp_path / f"a.tsv.{kind}"
        if kind == "zst":
            with pa.CompressedOutputStream(str(path), "zstd") as stream:
                stream.write(content)
        else:
            module = __import__({"gz": "gzip", "bz2": "bz2", "xz": "lzma"}[kind])
            path.write_bytes(module.compress(content))
        with pytest.warns(LorametaWarning, match="quotes are read as text"):
            assert load_examples(path)[:2] == [Example('"a', ("b",)), Example("c", ("d",))]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError):
            load_examples(path)

    def test_a_bomb(self, tmp_path):
        path = tmp_path / "a.json.gz"
        path.write_bytes(gzip.compress(b"[" + b" " * (40 << 20)))
        with pytest.raises(DataError, match="grows more than"):
            load_examples(path)


class TestTables:
    @pytest.mark.parametrize(
        ("name", "content", "options", "expected"),
        [
            ("a.tsv", '"He said stop\tA\nmiddle\tB\nand left"\tC\n', {}, ['"He said stop', "middle", 'and left"']),
            ("a.tsv", '"He said stop\tA\nmiddle\tB\nand left"\tC\n', {"quoting": "minimal"}, None),
            ("a.tsv", '"a ""b"""\tA\nc\tB\n', {}, ['a "b"', "c"]),
            ("a.tsv", '"a\tb"\tA\nc\tB\n', {}, ["a\tb", "c"]),
            ("a.tsv", '"a\nb"\tA\nc\tB\n', {}, ["a\nb", "c"]),
            ("a.csv", '"a",B\n6" pipe,B\n', {}, ["a", '6" pipe']),
            ("a.csv", '"a,B\n"b,C\n', {"quoting": "none"}, ['"a', '"b']),
            ("a.csv", "a|B\nb|C\n", {}, ["a", "b"]),
            ("a.csv", "a~B\nb~C\n", {"delimiter": "~"}, ["a", "b"]),
            ("a.csv", "a\tB\nb\tC\n", {"delimiter": "tab"}, ["a", "b"]),
            ("a.csv", f'"{"x" * 200_000}",B\nb,C\n', {}, ["x" * 200_000, "b"]),
        ],
    )
    @pytest.mark.filterwarnings("ignore::lorameta.errors.LorametaWarning")
    def test_quotes_and_separators(self, tmp_path, name, content, options, expected):
        separator = {"tab": "\t", None: "\t" if name == "a.tsv" else "|" if "|" in content else ","}.get(
            options.get("delimiter"), options.get("delimiter")
        )
        (tmp_path / name).write_text(f"input{separator}output\n{content}")
        found = [row.input for row in load_examples(tmp_path / name, **options)]
        assert found == (expected or ["He said stop\tA\nmiddle\tB\nand left"])

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_the_first_line_of_excel(self, tmp_path, mark):
        (tmp_path / "a.csv").write_bytes(mark + b"sep=;\r\ninput;output\r\na,x;b\r\nc;\r\n")
        assert load_examples(tmp_path / "a.csv", require_output=False) == [Example("a,x", ("b",)), Example("c")]
        with pytest.raises(DataError, match=r"a.csv:4: `output` is empty"):
            load_examples(tmp_path / "a.csv")

    def test_rows_that_a_quote_joins_are_doubted(self, tmp_path):
        (tmp_path / "a.csv").write_text('input,output\n"stop,A\nmiddle,B\nleft",C\nd,D\n')
        with pytest.warns(LorametaWarning, match=r"a.csv:2: a quoted field runs over several lines.*--quoting none"):
            assert len(load_examples(tmp_path / "a.csv")) == 2

    @pytest.mark.parametrize(
        "options", [{"delimiter": "ab"}, {"delimiter": '"'}, {"delimiter": ""}, {"quoting": "all"}]
    )
    def test_options_that_cannot_work(self, tmp_path, options):
        (tmp_path / "a.csv").write_text("input,output\na,b\n")
        with pytest.raises(UsageError, match=r"--delimiter|--quoting"):
            load_examples(tmp_path / "a.csv", **options)

    def test_trailing_commas_are_one_complaint(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"input": "a", "output": "b"},\n' * 5)
        with pytest.raises(DataError) as caught:
            load_examples(tmp_path / "a.jsonl")
        assert str(caught.value).count("comma follows") == 1
        (tmp_path / "a.json").write_text('[{"input": "a", "output": "b"},\n]')
        with pytest.raises(DataError, match="a comma follows the last element"):
            load_examples(tmp_path / "a.json")


class TestParquet:
    def test_only_used_columns_are_read(self, tmp_path):
        rows = 20_000
        table = pa.table({
            "text": pa.array(["a", "b"] * (rows // 2)),
            "label": pa.array(["x"] * rows).dictionary_encode(),
            "blob": pa.array([b"z" * 50_000] * 2 + [b""] * (rows - 2)),
            "when": pa.array([2**52] * rows, pa.timestamp("us")),
            "summary": pa.array(["s"] * rows),
        })  # fmt: skip
        pq.write_table(table, tmp_path / "a.parquet")
        found, report = read_examples(tmp_path / "a.parquet")
        assert len(found) == rows
        assert report.left_out == ("blob", "when", "summary")

    def test_a_date_that_python_cannot_hold(self, tmp_path):
        table = pa.table({"input": pa.array([0, 2**62], pa.timestamp("us")), "output": ["a", "b"]})
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"row 2: the value of 'input' cannot be read"):
            load_examples(tmp_path / "a.parquet")

    def test_text_that_is_no_utf8(self, tmp_path):
        broken = pa.Array.from_buffers(
            pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
        )
        pq.write_table(pa.table({"input": broken, "output": ["a", "b"]}), tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"row 2|damaged"):
            load_examples(tmp_path / "a.parquet")

    def test_missing_columns_are_named_from_the_schema(self, tmp_path):
        pq.write_table(pa.table({"utterance": ["a"], "intent": ["b"]}), tmp_path / "a.parquet")
        with pytest.raises(DataError, match="columns here: utterance, intent; did you mean --input-column 'utterance'"):
            load_examples(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("input,output\na,b\n".encode("utf-16-le"), "utf-8", "--encoding utf-16-le"),
        ("input,output\na,b\n".encode("utf-16-be"), "utf-8", "--encoding utf-16-be"),
        (b"input,output\na,b\n", "utf-16", "not utf-16"),
        (b"\xff\xff,\n\x80", "utf-7", "utf-7"),
    ],
)
def test_encodings_that_do_not_fit(tmp_path, content, encoding, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_examples(tmp_path / "a.csv", encoding=encoding)


def test_every_codec_of_python_reads_or_refuses(tmp_path):
    from encodings.aliases import aliases

    (tmp_path / "a.csv").write_bytes("input,output\nä,b\nc,d\n".encode())
    read = {}
    for encoding in sorted({*aliases.values(), "idna", "punycode", "undefined", "unicode_escape", "utf_8_sig"}):
        with contextlib.suppress(DataError, UsageError):
            read[encoding] = [row.input for row in load_examples(tmp_path / "a.csv", encoding=encoding)]
    assert read["utf_8"] == read["utf_8_sig"] == ["ä", "c"]
    assert read["latin_1"] == ["Ã¤", "c"]
    assert not {"ascii", "base64_codec", "undefined", "utf_16"} & set(read)


def test_wide_tables_take_linear_time(tmp_path):
    header = ",".join(["input", "output", *(f"c{n}" for n in range(100_000))])
    (tmp_path / "a.csv").write_text(f"{header}\na,b{',' * 100_000}\nc,d{',' * 100_000}\n")
    assert len(load_examples(tmp_path / "a.csv")) == 2
    row = {"input": "a", "output": "b", **{f"c{n}": 1 for n in range(50_000)}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"input": "z"}))
    assert len(load_examples(tmp_path / "a.jsonl")) == 2
