"""Every file format and kind of object gives the same examples."""

from __future__ import annotations

import json
import os
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorameta.data import Example, load_examples
from lorameta.errors import DataError, LorametaWarning
from tests.data.rows import EXAMPLES, FILES, GOOD, ROWS


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
