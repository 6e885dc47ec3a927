"""Files, encodings and objects that are no dataset."""

from __future__ import annotations

import pytest

from lorameta.data import load_examples
from lorameta.errors import DataError, UsageError
from tests.data.rows import GOOD, ROWS


class TestBadFiles:
    def test_missing(self, write, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        path = write("tickets.jsonl", GOOD)
        with pytest.raises(DataError, match=r"There is no file .*ticket.jsonl. Did you mean .*tickets.jsonl\?"):
            load_examples(path.with_name("ticket.jsonl"))
        with pytest.raises(DataError, match=r"there is no file someone/some-dataset"):
            load_examples("someone/some-dataset")

    def test_directory(self, write):
        path = write("empty", b"")
        path.unlink()
        path.mkdir()
        with pytest.raises(DataError, match=r"is a directory without a file of rows"):
            load_examples(path)

    def test_a_name_that_no_file_can_have(self):
        for name in ("a\0b.jsonl", "", "x" * 5000):
            with pytest.raises(DataError):
                load_examples(name)

    @pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a"])
    def test_empty(self, write, name, content):
        with pytest.raises(DataError, match=rf"{name} is empty"):
            load_examples(write(name, content))

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.txt", b"hello\n", r"neither its name nor its first line tells the format; supported are .jsonl"),
            ("a.jsonl.gz", b"\x1f\x8b\x08\x00", "gzip file is damaged"),
            ("a.xlsx", b"PK\x03\x04", "Excel"),
            ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            ("a.csv", b"<!DOCTYPE html>\n<html>", "a web page"),
            ("a.csv", "input,output\na,b\n".encode("utf-16"), "--encoding utf-16"),
            ("a.parquet", b"PAR1 and no more", "damaged"),
            ("a.parquet", b"no parquet", "damaged"),
        ],
    )
    def test_foreign(self, write, name, content, message):
        with pytest.raises(DataError, match=message):
            load_examples(write(name, content))

    def test_wrong_bytes_are_named_with_line_and_offset(self, write):
        lines = [b"input,output", b"caf\xe9,a", b"b,c", b"na\xefve,d", "ça,e".encode()]
        with pytest.raises(DataError) as caught:
            load_examples(write("a.csv", b"\r\n".join(lines)))
        message = str(caught.value)
        assert "a.csv:2: byte 0xe9 at offset 17 is not utf-8" in message
        assert "a.csv:4: byte 0xef at offset 29 is not utf-8" in message
        assert message.count("  - ") == 2
        assert "--encoding cp1252" in message

    def test_wrong_bytes_far_into_a_file(self, write):
        path = write("a.jsonl", GOOD * 5000 + b'{"input": "\xff", "output": "b"}\n')
        with pytest.raises(DataError, match=rf"a.jsonl:5001: byte 0xff at offset {5000 * len(GOOD) + 11} is not utf-8"):
            load_examples(path)

    def test_wrong_bytes_of_other_encodings(self, write):
        with pytest.raises(DataError, match=r"a.csv:1: the bytes are not utf-16"):
            load_examples(write("a.csv", "input,output\na,b".encode("utf-16")[:-1]), encoding="utf-16")
        with pytest.raises(DataError, match=r"a.csv:2: byte 0xe9 at offset 13 is not ascii"):
            load_examples(write("a.csv", b"input,output\n\xe9,b\n"), encoding="ascii")

    @pytest.mark.parametrize("dataset", [None, 5, b"a.jsonl", {"input": ["a"], "output": ["b"]}])
    def test_not_a_dataset(self, dataset):
        with pytest.raises(DataError, match="A dataset is a"):
            load_examples(dataset)

    @pytest.mark.parametrize("empty", [[], (), iter(())])
    def test_no_rows(self, empty):
        with pytest.raises(DataError, match="the dataset holds no rows"):
            load_examples(empty)

    @pytest.mark.parametrize("encoding", ["utf-9", "base64", "", "a\0b"])
    def test_unknown_encoding(self, write, encoding):
        with pytest.raises(UsageError, match="--encoding"):
            load_examples(write("a.jsonl", GOOD), encoding=encoding)

    @pytest.mark.parametrize("columns", [("a", "a"), ("", None), (None, ""), (3, None)])
    def test_columns_that_cannot_work(self, columns):
        with pytest.raises(UsageError, match="put-column"):
            load_examples(ROWS, input_column=columns[0], output_column=columns[1])
