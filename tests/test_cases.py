"""Files as people bring them, from public bug reports: a table of each kind, and where the other kinds are tested.

Each row of `FILES` is a file or folder, how it is read, and what becomes of it. The first rows of a kind are the cases
that were reported; the others are more of the same kind that were thought of, as are those of `tests/test_more_cases.py`.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorameta.data import read_examples
from lorameta.errors import DataError

# ruff: noqa: E501
TEXTS = ["where is my parcel", "is the pan hot", "lost my card", "book a train"]
DESKS = ["home", "kitchen", "credit cards", "travel"]
PAIRS = list(zip(TEXTS, DESKS, strict=True))
CHATS = [
    [{"from": "human", "value": text}, {"from": "gpt", "value": desk}] for text, desk in PAIRS
]  # fmt: skip
TURNS = [[{"role": "user", "content": text}, {"role": "assistant", "content": desk}] for text, desk in PAIRS]
#: What most rows of the table are to become.
WANTED = [(text, (desk,)) for text, desk in PAIRS]
ASKED = [(f"Definition: Which desk?\n\nInput: {text}\n\nOutput:", (desk,)) for text, desk in PAIRS]

Content = bytes | Callable[[Path], Any]


def jsonl(rows: list[Any], end: str = "\n") -> bytes:
    return "".join(json.dumps(row) + end for row in rows).encode()


def named(prompt: str, answer: str, **more: Any) -> list[dict[str, Any]]:
    return [{prompt: text, answer: desk, **more} for text, desk in PAIRS]


def parquet(*parts: slice, **columns: list[Any]) -> Callable[[Path], Any]:
    """Write tables into a folder: of each part of the rows one."""

    def write(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not parts:
            pq.write_table(pa.table(columns), path)
            return
        path.mkdir()
        for number, part in enumerate(parts):
            table = pa.table({name: values[part] for name, values in columns.items()})
            pq.write_table(table, path / f"train-{number:05}-of-{len(parts):05}.parquet")

    return write


def saved(*names: str) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        found = datasets.Dataset.from_list(named("input", "output"))
        (datasets.DatasetDict(dict.fromkeys(names, found)) if names else found).save_to_disk(path)

    return write


HALVES = {"input": TEXTS, "output": DESKS}
LABELS = {"text": TEXTS, "label": [1.0, None, 0.0, 1.0]}
BINARY = [(TEXTS[0], ("1",)), (TEXTS[1], ()), (TEXTS[2], ("0",)), (TEXTS[3], ("1",))]
NUL = "NUL characters were removed"
TABLE = "input;output\r\n" + "".join(f"{text};{desk}\r\n" for text, desk in PAIRS)
QUOTED = 'input\toutput\n"He said stop\tA\nmiddle row\tB\nand left"\tC\nlast row\tD\n'

#: Case → name of the file, content, options, what is read, and what the warnings say (all of it if it is "").
FILES: dict[str, tuple[str, Content, dict[str, Any], list[Any], str]] = {
    # A column of the answers that has another name than `output`.
    "text_label": ("a.jsonl", jsonl(named("text", "label")), {}, WANTED, ""),
    "text_label, prompt_response": ("a.jsonl", jsonl(named("prompt", "response")), {}, WANTED, ""),
    "question and answer": ("a.jsonl", jsonl(named("question", "answer")), {}, WANTED, ""),
    "an unknown name": ("a.jsonl", jsonl(named("text", "sentiment")), {}, [(t, ()) for t in TEXTS], "--output-column sentiment"),
    "an unknown name that is said": ("a.jsonl", jsonl(named("text", "desk")), {"output_column": "desk"}, WANTED, ""),
    # Columns of the prompt beside the input.
    "dolly_context": ("a.jsonl", jsonl([{"instruction": "Which desk?", "context": text, "response": desk, "category": "c"} for text, desk in PAIRS]),
                      {"output_column": "response"}, ASKED, ""),
    "dolly_context, in a table": ("a.csv", ("instruction,context,response\n" + "".join(f"Which desk?,{t},{d}\n" for t, d in PAIRS)).encode(), {}, ASKED, ""),
    "context under another name": ("a.jsonl", jsonl(named("question", "answer", passage="p")), {}, WANTED, "--context-column passage"),
    "alpaca_history": ("a.json", json.dumps(named("instruction", "output", input="", system="Route.", history=[["a", "b"]])).encode(), {},
                       [(f"Definition: Route.\n\nInput: User: a\nAssistant: b\nUser: {t}\n\nOutput:", (d,)) for t, d in PAIRS], ""),
    "alpaca_history, empty": ("a.json", json.dumps(named("instruction", "output", input="", system="", history=[])).encode(), {},
                              [(f"Definition: {t}\n\nOutput:", (d,)) for t, d in PAIRS], ""),
    # Conversations.
    "sharegpt": ("a.json", json.dumps([{"id": f"c{n}", "conversations": chat} for n, chat in enumerate(CHATS)], indent=1).encode(), {}, WANTED, ""),
    "sharegpt, user and assistant": ("a.jsonl", jsonl([{"conversations": [{"from": "user", "value": t}, {"from": "assistant", "value": d}]} for t, d in PAIRS]), {}, WANTED, ""),
    "list_of_lists": ("a.json", json.dumps(CHATS).encode(), {}, WANTED, ""),
    "list_of_lists, a line each": ("a.jsonl", jsonl(TURNS), {}, WANTED, ""),
    "content_parts": ("a.jsonl", jsonl([{"messages": [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]} for turns in TURNS]), {}, WANTED, ""),
    "trl_conversational": ("a.jsonl", jsonl([{"prompt": turns[:1], "completion": turns[1:]} for turns in TURNS]), {}, WANTED, ""),
    "preference": ("a.jsonl", jsonl([{"prompt": t, "chosen": d, "rejected": "no"} for t, d in PAIRS]), {}, WANTED, ""),
    "preference, conversational": ("a.jsonl", jsonl([{"chosen": turns, "rejected": turns} for turns in TURNS]), {}, WANTED, ""),
    # Tables.
    "tsv_quote_swallows_rows": ("a.tsv", QUOTED.encode(), {}, [('"He said stop', ("A",)), ("middle row", ("B",)), ('and left"', ("C",)), ("last row", ("D",))], "read as text"),
    "quotes that enclose": ("a.tsv", b'input\toutput\n"a\tb"\tA\n"c ""d"""\tB\n', {}, [("a\tb", ("A",)), ('c "d"', ("B",))], ""),
    "excel_sep": ("a.csv", b"\xef\xbb\xbf" + f"sep=;\r\n{TABLE}".encode(), {}, WANTED, ""),
    "excel_sep, quoted, UTF-16": ("a.csv", f'"sep=;"\r\n{TABLE}'.encode("utf-16"), {"encoding": "utf-16"}, WANTED, ""),
    "semicolons": ("a.csv", TABLE.encode(), {}, WANTED, ""),
    "semicolons that are said": ("a.txt.csv", TABLE.replace(";", "|").encode(), {"delimiter": "pipe", "quoting": "none"}, WANTED, ""),
    "csv_nul": ("a.csv", TABLE.replace(";", ",").replace("\r", "").replace("home", "home\0").encode(), {}, WANTED, NUL),
    "a cell of 200 kB": ("a.csv", f"input,output\n{'x' * 200_000},A\ny,B\n".encode(), {}, [("x" * 200_000, ("A",)), ("y", ("B",))], ""),
    "float_labels": ("a.parquet", parquet(**LABELS), {}, BINARY, "integers that its 1 missing value"),
    "float_labels, as text": ("a.csv", b"text,label\n" + b"".join(f"{t},{'' if v is None else v}\n".encode() for t, v in zip(TEXTS, LABELS["label"], strict=True)), {}, BINARY, "integers"),
    # Files that are packed, cut or kept in folders.
    "gz": ("a.jsonl.gz", gzip.compress(jsonl(named("input", "output"))), {}, WANTED, ""),
    "gz, with another ending": ("a.jsonl", gzip.compress(jsonl(named("input", "output"))), {}, WANTED, ""),
    "shards": ("data", parquet(slice(0, 2), slice(2, 4), **HALVES), {}, WANTED, ""),
    "shards, of one row": ("data", parquet(*(slice(n, n + 1) for n in range(4)), **HALVES), {}, WANTED, ""),
    "save_to_disk": ("ds", saved(), {}, WANTED, ""),
    "save_to_disk, a dictionary": ("dsdict", saved("train"), {}, WANTED, ""),
    "a byte order mark": ("a.jsonl", b"\xef\xbb\xbf" + jsonl(named("input", "output"), "\r\n"), {}, WANTED, ""),
    "a list in an object": ("a.json", json.dumps({"version": 1, "data": named("input", "output")}).encode(), {}, WANTED, ""),
}  # fmt: skip

#: Case → file, content, and the message; it is given once, not once for each row.
REFUSED: dict[str, tuple[str, Content, str]] = {
    "jsonl_trailing_commas": ("a.jsonl", jsonl(named("input", "output"), ",\n"), "a comma follows the object.*JSONL has no commas"),
    "brackets and commas": ("a.jsonl", b"[\n" + jsonl(named("input", "output"), ",\n") + b"]", "a comma follows the last element"),
    "a list that is cut off": ("a.json", b"[\n" + jsonl(named("input", "output"), ",\n"), "what follows was not read"),
    "a web page": ("a.jsonl", b"<!DOCTYPE html><html></html>", "a web page, not the data"),
    "a pointer of Git LFS": ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "a workbook": ("a.csv", b"PK\x03\x04 and more", "Excel workbook"),
    "an image among the parts": ("a.jsonl", jsonl([{"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}, TURNS[0][1]]}]), "image"),
    "parts of a dictionary": ("dsdict", saved("train", "test"), "name one of them"),
}  # fmt: skip

#: Cases that are no question of reading → the test of them, and more cases of the kind beside it.
ELSEWHERE = {
    "ad_B_all_zero": "adapter/test_foreign.py::test_an_update_of_zero_is_said",
    "ad_axolotl_modules_to_save": "adapter/test_foreign.py::test_one_complaint_names_what_it_is_and_the_remedy",
    "ad_foreign_abs_base": "adapter/test_base_names.py::test_one_base",
    "ad_mlx": "adapter/test_foreign.py::test_a_configuration_of_mlx_beside_weights",
    "ad_plain": "export/test_runtimes.py::test_every_architecture_computes_alike",
    "ad_sharded": "adapter/test_foreign.py::test_one_complaint_names_what_it_is_and_the_remedy",
    "ad_trainer_output": "adapter/test_foreign.py::test_one_complaint_names_what_it_is_and_the_remedy",
    "ad_unsloth_base": "cli/test_evaluate_verb.py::test_another_name_of_the_base_is_said",
    "ad_zero3_empty": "adapter/test_foreign.py::test_one_complaint_names_what_it_is_and_the_remedy",
    "eos_in_outputs": "test_scoring.py::test_end_tokens_in_references_are_no_part_of_them",
    "long_references": "test_scoring.py::test_references_that_no_answer_can_equal_are_a_warning",
    "rouge_non_latin": "test_scoring.py::test_an_answer_that_is_right_has_the_full_score_in_every_script",
    "sentence_truncation": "encoder/test_sentence.py::test_tasks_behind_one_long_preamble_are_told_apart",
    "trailing_space": "test_scoring.py::test_a_space_at_the_end_of_a_prompt_changes_nothing",
}  # fmt: skip


def written(path: Path, content: Content) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


@pytest.mark.parametrize("case", FILES)
def test_it_is_read_whole(tmp_path, case):
    name, content, options, wanted, warning = FILES[case]
    path = written(tmp_path / name, content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        examples, report = read_examples(path, require_output=False, **options)
    assert [(row.input, row.outputs) for row in examples] == wanted
    said = " ".join(str(one.message) for one in caught)
    assert warning in said if warning else not said
    assert re.match(r"Read \d+ rows of .*: prompt from ", report.line())
    assert report.labelled == sum(bool(answers) for _, answers in wanted)


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_reason(tmp_path, case):
    name, content, message = REFUSED[case]
    path = written(tmp_path / name, content)
    with pytest.raises(DataError, match=f"(?s){message}") as caught:
        read_examples(path, require_output=False)
    assert str(caught.value).count("\n  - ") <= 1


def test_several_files_and_a_pattern_are_one_dataset(tmp_path):
    folder = written(tmp_path / "data", parquet(slice(0, 2), slice(2, 4), **HALVES))
    for dataset in (f"{folder}/*.parquet", sorted(folder.iterdir())):
        assert [(row.input, row.outputs) for row in read_examples(dataset)[0]] == WANTED


@pytest.mark.parametrize("case", ELSEWHERE)
def test_the_other_cases_are_tested(case):
    file, _, name = ELSEWHERE[case].partition("::")
    assert f"def {name}(" in (Path(__file__).parent / file).read_text(encoding="utf-8")
