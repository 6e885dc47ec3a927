"""Datasets in, examples out: every form and format gives the same examples; every bad row is named by its place."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import random
import threading
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorameta.data import Example, dataset_name, fingerprint, instruction_prompt, join_prompt, load_examples
from lorameta.errors import DataError, LorametaWarning, UsageError

ROWS = [{"input": "wo ist mein Gepäck?", "output": "travel"}, {"input": 'a, b\n"c"; d', "output": "work"}]
EXAMPLES = [Example("wo ist mein Gepäck?", ("travel",)), Example('a, b\n"c"; d', ("work",))]
GOOD = b'{"input": "a", "output": "b"}\n'


@pytest.fixture
def write(tmp_path: Path):
    def _write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows: list[list[str]], separator: str = ",") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator).writerows(rows)
    return stream.getvalue()


CELLS = [["input", "output"], *([row["input"], row["output"]] for row in ROWS)]
FILES = {
    "a.jsonl": jsonl(*ROWS),
    "a.ndjson": jsonl(*ROWS),
    "lines.json": jsonl(*ROWS),
    "lines": jsonl(*ROWS),
    "a.json": json.dumps(ROWS, indent=2),
    "compact.json": json.dumps(ROWS),
    "list.jsonl": json.dumps(ROWS),
    "pretty.jsonl": json.dumps(ROWS, indent=2),
    "list.txt": json.dumps(ROWS),
    "data.json": json.dumps({"version": [1, 2], "data": ROWS, "n": 2}, indent=1),
    "one_list.json": json.dumps({"tickets": ROWS, "meta": {"data": []}}),
    "a.csv": table(CELLS),
    "semicolon.csv": table(CELLS, ";"),
    "A.CSV": table(CELLS),
    "a.tsv": table(CELLS, "\t"),
}


class TestFormats:
    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
    @pytest.mark.parametrize("name", FILES)
    def test_every_text_format_gives_the_same_examples(self, write, name, ends, bom):
        content = FILES[name].encode().replace(b"\r\n", b"\n").replace(b"\n", ends)
        examples = load_examples(write(name, bom + content))
        plain = [Example(example.input.replace("\r\n", "\n"), example.outputs) for example in examples]
        assert plain == EXAMPLES

    @pytest.mark.parametrize("name", ["a.parquet", "a.pq", "misnamed.jsonl"])
    def test_parquet(self, tmp_path, name):
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / name)
        assert load_examples(tmp_path / name) == EXAMPLES

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "UTF8", "utf_8", "utf-8-sig"])
    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
    def test_encodings(self, write, name, encoding):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
        text = {"a.jsonl": lines, "a.json": json.dumps(ROWS, ensure_ascii=False), "a.csv": FILES["a.csv"]}[name]
        assert load_examples(write(name, text.encode(encoding)), encoding=encoding) == EXAMPLES

    def test_objects(self):
        assert load_examples(ROWS) == EXAMPLES
        assert load_examples(tuple(ROWS)) == EXAMPLES
        assert load_examples(row for row in ROWS) == EXAMPLES
        assert load_examples(EXAMPLES) == EXAMPLES

    def test_hugging_face_dataset_and_parts(self):
        datasets = pytest.importorskip("datasets")
        dataset = datasets.Dataset.from_list(ROWS)
        assert load_examples(dataset) == EXAMPLES
        assert load_examples(dataset.to_iterable_dataset()) == EXAMPLES
        with pytest.raises(DataError, match=r"'train', 'test'.*pass one part"):
            load_examples(datasets.DatasetDict(train=dataset, test=dataset))

    def test_pandas(self):
        pandas = pytest.importorskip("pandas")
        assert load_examples(pandas.DataFrame(ROWS)) == EXAMPLES
        frame = pandas.DataFrame({"input": ["a", "b", "c"], "output": ["x", None, float("nan")]})
        with pytest.raises(DataError, match=r"(?s)row 2: `output` is (null|NaN).*3"):
            load_examples(frame)
        assert [example.outputs for example in load_examples(frame, require_output=False)] == [("x",), (), ()]

    def test_blank_lines_and_a_byte_order_mark_between_joined_files(self, write):
        path = write("a.jsonl", b"\n \r\n" + GOOD + b"\n\xef\xbb\xbf" + b'{"input": "c", "output": "d"}\n\n')
        assert [example.input for example in load_examples(path)] == ["a", "c"]
        path = write("a.csv", "\n\ninput,output\n\na,b\n,\n\nc,d\n\n")
        assert [example.input for example in load_examples(path)] == ["a", "c"]

    def test_line_separators_of_unicode_do_not_end_a_line(self, write):
        path = write("a.jsonl", '{"input": "a\u2028b\x85c", "output": "x"}\n{"input": "d", "output": "y"}\n')
        assert [example.input for example in load_examples(path)] == ["a\u2028b\x85c", "d"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
    def test_a_pipe_is_read_once(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(FILES["a.jsonl"].encode(),))
        writer.start()
        assert load_examples(pipe) == EXAMPLES
        writer.join()

    def test_a_task_of_natural_instructions_keeps_its_definition(self, write):
        task = {
            "Definition": ["Name the desk."],
            "Positive Examples": [{"input": "p", "output": "q", "explanation": "r"}],
            "Instances": [{"id": "1", "input": "a", "output": ["b", "c"]}, {"id": "2", "input": "d", "output": ["e"]}],
        }
        examples = load_examples(write("task.json", json.dumps(task, indent=1)))
        assert examples[0] == Example("Definition: Name the desk.\n\nInput: a\n\nOutput:", ("b", "c"))
        assert len(examples) == 2

    def test_one_object_is_one_row(self, write):
        for row in ({"input": "a", "output": ["b", "c"]}, {"messages": [{"role": "user", "content": "a"}]}):
            with pytest.warns(LorametaWarning, match="only one row"):
                assert load_examples(write("a.json", json.dumps(row, indent=2)), require_output=False)[0].input == "a"


class TestForms:
    @pytest.mark.parametrize(
        ("row", "prompt", "outputs"),
        [
            ({"input": " a\n", "output": "b"}, " a\n", ("b",)),
            ({"instruction": "Do.", "input": "a", "output": "b"}, "Definition: Do.\n\nInput: a\n\nOutput:", ("b",)),
            ({"instruction": "Do.", "input": "", "output": "b"}, "Definition: Do.\n\nOutput:", ("b",)),
            ({"instruction": "Do.", "input": None, "output": "b"}, "Definition: Do.\n\nOutput:", ("b",)),
            ({"instruction": "Do.", "output": "b"}, "Definition: Do.\n\nOutput:", ("b",)),
            ({"instruction": "", "input": "a", "output": "b"}, "a", ("b",)),
            ({"instruction": None, "input": "a", "output": "b"}, "a", ("b",)),
            ({"prompt": "a:", "completion": " b"}, "a:", ("b",)),
            ({"input": "a", "output": "b", "prompt": "c", "completion": "d", "text": "e"}, "a", ("b",)),
            ({"input": None, "prompt": "c", "completion": "d"}, "c", ("d",)),
            ({"input": "a", "output": ["b", "c", 3]}, "a", ("b", "c", "3")),
            ({"input": 7, "output": 0}, "7", ("0",)),
            ({"input": "a", "output": 1.5}, "a", ("1.5",)),
            ({"input": "a", "output": np.int64(3)}, "a", ("3",)),
            ({"input": "a", "output": np.array(["b", "c"])}, "a", ("b", "c")),
            ({"input": "a", "output": Decimal("1.50")}, "a", ("1.50",)),
        ],
    )
    def test_row(self, row, prompt, outputs):
        assert load_examples([row, {"input": "other", "output": "row"}])[0] == Example(prompt, outputs)

    def test_numbers_of_json_stay_as_written(self, write):
        path = write("a.jsonl", '{"input": 1e5, "output": 1.50}\n{"input": 12345678901234567890, "output": -0}\n')
        assert [(e.input, e.output) for e in load_examples(path)] == [("1e5", "1.50"), ("12345678901234567890", "-0")]
        assert type(load_examples(path)[0].input) is str

    def test_mapped_columns(self, write):
        row = {"id": 1, "question": "a", "answer": "b", "text": "c", "instruction": "Do."}
        mapped = load_examples([row, row | {"question": "d"}], input_column="question", output_column="answer")
        assert mapped[0] == Example("Definition: Do.\n\nInput: a\n\nOutput:", ("b",))
        only_output = load_examples([{"text": "a", "label": 1}, {"text": "b", "label": 0}], output_column="label")
        assert only_output == [Example("a", ("1",)), Example("b", ("0",))]
        only_input = load_examples(
            [{"utterance": "a", "output": "x"}, {"utterance": "b"}][:1] * 2 + [{"utterance": "b", "output": "y"}],
            input_column="utterance",
        )
        assert only_input[-1] == Example("b", ("y",))
        verbatim = load_examples([row, row | {"instruction": "e"}], input_column="instruction", output_column="answer")
        assert verbatim[0].input == "Do."

    @pytest.mark.parametrize(
        ("messages", "prompt", "outputs"),
        [
            (["user: a", "assistant: b "], "a", ("b",)),
            (["system: S", "user: a", "assistant: b"], "Definition: S\n\nInput: a\n\nOutput:", ("b",)),
            (["developer: S", "user: a", "assistant: b"], "Definition: S\n\nInput: a\n\nOutput:", ("b",)),
            (
                ["user: a", "assistant: b", "user: c", "assistant: d"],
                "User: a\nAssistant: b\nUser: c\nAssistant:",
                ("d",),
            ),
            (
                ["system: S", "user: a", "assistant: b", "user: c", "assistant: d"],
                "Definition: S\n\nInput: User: a\nAssistant: b\nUser: c\n\nOutput:",
                ("d",),
            ),
            (["user: a"], "a", ()),
            (["user: a", "assistant: b", "tool: c"], "User: a\nAssistant: b\nTool: c\nAssistant:", ()),
        ],
    )
    def test_messages(self, messages, prompt, outputs):
        turns = [dict(zip(("role", "content"), message.split(": ", 1), strict=True)) for message in messages]
        rows = [{"messages": turns}, {"messages": [{"role": "user", "content": "other"}]}]
        assert load_examples(rows, require_output=False)[0] == Example(prompt, outputs)

    def test_unlabelled_rows_only_where_they_are_allowed(self):
        rows = [{"text": "a"}, {"input": "b"}, {"prompt": "c", "completion": ""}, {"input": "d", "output": []}]
        examples = load_examples(rows, require_output=False)
        assert [(example.input, example.outputs) for example in examples] == [
            ("a", ()),
            ("b", ()),
            ("c", ()),
            ("d", ()),
        ]
        with pytest.raises(
            DataError, match=r"(?s)4 rows .*row 1: .*`text` alone.*row 2: .*row 3: .*empty.*row 4: .*empty"
        ):
            load_examples(rows)


class TestBadRows:
    def test_all_are_named_at_once_with_their_lines(self, write):
        path = write(
            "tickets.jsonl",
            GOOD + b"\n" + b'{"input": "a", "output": \n' + b"[1]\n17\n" + GOOD + b'{"input": "a", "ouput": "b"}\n'
            b'{"input": "a", "input": "b", "output": "c"}\n{"input": " ", "output": "c"}\n{}\n',
        )
        with pytest.raises(DataError) as caught:
            load_examples(path)
        lines = str(caught.value).splitlines()
        assert lines[0] == f"7 rows of {path} cannot be used:"
        for number, part in {
            3: "broken JSON at column 25",
            4: "a list, not an object",
            5: "a number, not an object",
            7: "columns here: input, ouput; did you mean --output-column 'ouput'?",
            8: "'input' appears twice",
            9: "`input` is only whitespace",
            10: "an empty object",
        }.items():
            assert any(line.startswith(f"  - {path}:{number}: ") and part in line for line in lines), (number, lines)
        assert "--input-column and --output-column" in lines[-1]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"input": "a"}, "no output column; columns here: input"),
            ({"input": "a", "output": None}, "`output` is null"),
            ({"input": "a", "output": float("nan")}, "`output` is NaN"),
            ({"input": "a", "output": True}, "`output` is the boolean true; write it as text"),
            ({"input": "a", "output": np.bool_(False)}, "`output` is the boolean false"),
            ({"input": "a", "output": {"b": 1}}, "`output` is an object; text or a number"),
            ({"input": "a", "output": float("inf")}, "`output` is infinite"),
            ({"input": "a", "output": "  "}, "`output` is empty"),
            ({"input": "a", "output": []}, "`output` is an empty list"),
            ({"input": "a", "output": ["b", None]}, "`output\\[1\\]` is null"),
            ({"input": "a", "output": ["b", ""]}, "`output\\[1\\]` is empty"),
            ({"input": "a", "output": [["b"]]}, "`output\\[0\\]` is a list"),
            ({"input": "a", "output": b"b"}, "`output` is of type bytes"),
            ({"input": "a", "output": "\ud83d"}, "`output` has half of a surrogate pair"),
            ({"input": None, "output": "b"}, "`input` is null; a prompt is needed"),
            ({"input": float("nan"), "output": "b"}, "`input` is NaN"),
            ({"input": ["a"], "output": "b"}, "`input` is a list"),
            ({"input": "", "output": "b"}, "`input` is empty"),
            ({"input": False, "output": "b"}, "`input` is the boolean false"),
            ({"Input": "a", "output": "b"}, "no input column; columns here: Input, output; .*--input-column 'Input'"),
            (
                {"utterance": "a", "intent": "b"},
                "intent; did you mean --input-col.*'utterance' --output-column 'intent'\\?",
            ),
            ({"text": "a", "intent": "b"}, "`text` alone .* did you mean --output-column 'intent'"),
            ({"x": 1, "y": 2}, "columns here: x, y$"),
            ("text", "the row is text, not an object"),
            (None, "the row is null"),
            ({"messages": []}, "`messages` is an empty list"),
            ({"messages": "a"}, "`messages` is text; a list"),
            ({"messages": ["a"]}, "`messages\\[0\\]` is text; an object"),
            ({"messages": [{"from": "a"}]}, "no value; keys there: from"),
            ({"messages": [{"role": "narrator", "content": "a"}]}, "role` is 'narrator'"),
            ({"messages": [{"role": "user", "content": None}]}, "content` is null"),
            ({"messages": [{"role": "user", "content": " "}]}, "content` is empty"),
            ({"messages": [{"role": "user", "content": "a"}]}, "does not end with an answer"),
            ({"messages": [{"role": "assistant", "content": "a"}]}, "no message before the answer"),
        ],
    )
    def test_row(self, row, message):
        with pytest.raises(DataError, match=r"(?m)^  - row 3: .*" + message):
            load_examples([*ROWS, row, *ROWS])

    def test_a_misspelt_option_is_one_complaint_however_many_rows(self):
        with pytest.raises(DataError) as caught:
            load_examples([{"question": "a", "answer": "b"}] * 5000, input_column="qestion", output_column="answer")
        message = str(caught.value)
        assert (
            "row 1: no column 'qestion'; columns here: question, answer; did you mean --input-column 'question'?"
            in message
        )
        assert "(also at 2, 3, 4, 5, 6 and 4994 more)" in message
        assert len(message) < 500

    def test_many_different_complaints_are_cut_but_counted(self):
        with pytest.raises(DataError, match=r"(?s)^3000 rows .*and 980 more|^3000 rows") as caught:
            load_examples([{"input": "a", f"key{number}": number} for number in range(3000)])
        assert len(str(caught.value).splitlines()) < 30

    def test_duplicate_keys_of_a_message(self, write):
        path = write("a.jsonl", b'{"messages": [{"role": "user", "role": "assistant", "content": "a"}]}\n')
        with pytest.raises(DataError, match=r"a.jsonl:1: the key 'role' appears twice in `messages\[0\]`"):
            load_examples(path)


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
