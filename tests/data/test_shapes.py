"""The shapes in which people bring their rows: used whole, or refused with the reason and the remedy."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorameta.data import Example, load_examples, read_examples
from lorameta.errors import DataError, LorametaWarning, UsageError

U, A = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}
HUMAN, GPT = {"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
}
DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]  # of which not even repr can be taken
S = {"role": "system", "content": "Be brief."}
BRIEF = "Definition: Be brief.\n\nInput: {}\n\nOutput:"
DO = "Definition: Do.\n\nInput: {}\n\nOutput:"

# ruff: noqa: E501
#: Row, prompt, answers, columns of the prompt, columns that are left out.
SHAPES: dict[str, tuple[Any, str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "dolly": (
        {"instruction": "Do.", "context": "c", "response": "b", "category": "qa"},
        DO.format("c"), ("b",), ("instruction", "context"), ("category",),
    ),
    "alpaca": (
        {"instruction": "Do.", "input": "a", "output": "b", "text": "all"},
        DO.format("a"), ("b",), ("instruction", "input"), ("text",),
    ),
    "alpaca with context": (
        {"instruction": "Do.", "input": "a", "context": "c", "output": "b"},
        DO.format("c\n\na"), ("b",), ("instruction", "input", "context"), (),
    ),
    "alpaca with system and history": (
        {"instruction": "Do.", "input": "", "output": "b", "system": "Be brief.", "history": [["x", "y"]]},
        BRIEF.format("User: x\nAssistant: y\nUser: Do."), ("b",), ("instruction", "system", "history"), ("input",),
    ),
    "alpaca with an empty history": (
        {"instruction": "Do.", "input": "a", "output": "b", "system": "", "history": []},
        DO.format("a"), ("b",), ("instruction", "input"), ("system", "history"),
    ),
    "history alone": (
        {"input": "a", "output": "b", "history": [["x", "y"]]},
        "User: x\nAssistant: y\nUser: a\nAssistant:", ("b",), ("input", "history"), (),
    ),
    "system beside a prompt": (
        {"system_prompt": "Be brief.", "prompt": "a", "response": "b"},
        BRIEF.format("a"), ("b",), ("prompt", "system_prompt"), (),
    ),
    "prompt and response": ({"prompt": "a", "response": "b"}, "a", ("b",), ("prompt",), ()),
    "question and answer": ({"question": "a", "answer": 4}, "a", ("4",), ("question",), ()),
    "squad": (
        {"id": 1, "title": "t", "context": "c", "question": "a", "answers": {"text": ["b", "b"], "answer_start": [0, 0]}},
        "c\n\na", ("b",), ("question", "context"), ("id", "title"),
    ),
    "text and label": ({"text": "a", "label": 1, "idx": 0}, "a", ("1",), ("text",), ("idx",)),
    "text and name of the label": ({"text": "a", "label": 1, "label_text": "good"}, "a", ("good",), ("text",), ("label",)),
    "sharegpt": ({"id": "c0", "conversations": [HUMAN, GPT]}, "hello", ("hi",), ("conversations",), ("id",)),
    "sharegpt with a system column": (
        {"system": "Be brief.", "conversations": [HUMAN, GPT]},
        BRIEF.format("hello"), ("hi",), ("conversations", "system"), (),
    ),
    "bare turns": ([HUMAN, GPT], "hello", ("hi",), ("messages",), ()),
    "parts of text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}, A]},
        "one\ntwo", ("hi",), ("messages",), (),
    ),
    "tool calls": (
        {"messages": [S, U, CALL, {"role": "tool", "tool_call_id": "1", "content": "2"}, A]},
        BRIEF.format('User: hello\nAssistant: {"name": "add", "arguments": {"a": 1}}\nTool: 2'),
        ("hi",), ("messages",), (),
    ),
    "an answer that is a tool call": (
        {"messages": [U, CALL]}, "hello", ('{"name": "add", "arguments": {"a": 1}}',), ("messages",), (),
    ),
    "conversational prompt and completion": (
        {"prompt": [S, U], "completion": [A]}, BRIEF.format("hello"), ("hi",), ("prompt",), (),
    ),
    "text prompt and conversational completion": ({"prompt": "a", "completion": [A]}, "a", ("hi",), ("prompt",), ()),
    "conversational prompt and text": ({"prompt": [U], "completion": "b"}, "hello", ("b",), ("prompt",), ()),
    "preference": ({"prompt": "a", "chosen": "b", "rejected": "c"}, "a", ("b",), ("prompt",), ("rejected",)),
    "conversational preference": ({"prompt": [U], "chosen": [A], "rejected": [A]}, "hello", ("hi",), ("prompt",), ("rejected",)),
    "preference that repeats the prompt": (
        {"prompt": "hello", "chosen": [U, A], "rejected": [U]}, "hello", ("hi",), ("prompt",), ("rejected",),
    ),
    "preference without a prompt": ({"chosen": [U, A], "rejected": [U, A]}, "hello", ("hi",), ("chosen",), ("rejected",)),
    "preference as text": (
        {"chosen": "\n\nHuman: hello\n\nAssistant: hi", "rejected": "x"},
        "Human: hello\n\nAssistant:", ("hi",), ("chosen",), ("rejected",),
    ),
    "a dialogue goes before a prompt without an answer": (
        {"prompt": "hello", "messages": [U, A]}, "hello", ("hi",), ("messages",), ("prompt",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("error")
def test_known_shapes_are_used_whole(shape):
    row, prompt, outputs, used, left_out = SHAPES[shape]
    examples, report = read_examples([row, row, {"input": "other", "output": "row"}])
    assert examples[0] == Example(prompt, outputs)
    assert tuple(name for name in report.prompt if name != "input" or "input" in used) == used
    seen = set(row) if isinstance(row, dict) else {"messages"}
    assert set(left_out) - {"input"} == seen - set(report.prompt) - set(report.answer)
    assert (report.rows, report.labelled) == (3, 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_says_the_same_as_the_rows(tmp_path, shape):
    row, prompt, outputs, *_ = SHAPES[shape]
    for name, text in {"a.jsonl": f"{json.dumps(row)}\n" * 2, "a.json": json.dumps([row, row], indent=1)}.items():
        (tmp_path / name).write_text(text)
        with pytest.warns(LorametaWarning, match="are equal"):
            examples = load_examples(tmp_path / name)
        assert [(example.input, example.outputs) for example in examples] == [(prompt, outputs)] * 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, A]}, "type 'image_url'"),
        ({"messages": [U, {"role": "assistant", "tool_calls": [{"id": 1}]}]}, "call without the name of a function"),
        ({"instruction": "Do.", "output": "b", "history": "earlier"}, r"`history` is text.*--ignore-column history"),
        ({"instruction": "Do.", "output": "b", "history": [["x"]]}, r"`history\[0\]` is a list; a pair"),
        ({"chosen": "b", "rejected": "c"}, "no `prompt` beside it"),
        ({"chosen": [U], "rejected": [U]}, "no `prompt` beside it"),
        ([["a", "b"]], "the row is a list"),
        ([1, 2], "the row is a list"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "from` is 'narrator'"),
        ({"conversations": [{"from": DEEP, "value": "x"}]}, "from` is a list"),
        ({"messages": [{"role": "user", "content": [{"type": DEEP}]}, A]}, "of type a list"),
        ({"conversations": [HUMAN]}, "does not end with an answer"),
        ({"input": "a", "output": 1j}, "a complex number"),
        ({"input": "a", "output": 10**5000}, "too many digits"),
        ({"input": "a", "output": {"b": 1}}, "an object"),
        ({"input": "\0", "output": "b"}, "nothing but NUL"),
        ({"question": "a", "context": True, "answer": "b"}, r"`context` is the boolean.*--ignore-column context"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(row, message):
    with pytest.raises(DataError, match=f"(?s)row 1: .*{message}"):
        load_examples([row, {"input": "a", "output": "b"}])


@pytest.mark.parametrize("value", [__import__("decimal").Decimal("sNaN"), float("nan"), None])
def test_missing_answers(value):
    rows = [{"input": "a", "output": value}, {"input": "b", "output": 10**400}]
    assert [row.outputs for row in load_examples(rows, require_output=False)] == [(), (str(10**400),)]


class TestWarnings:
    @pytest.mark.parametrize(
        ("row", "option"),
        [
            ({"text": "a", "sentiment": "good"}, "--output-column sentiment"),
            ({"prompt": "a", "summary": "short"}, "--output-column summary"),
            ({"messages": [U], "label": "x"}, "--output-column label"),
            ({"question": "a", "answer": "b", "passage": "p"}, "--context-column passage"),
            ({"messages": [U, A], "tools": [{"name": "add"}]}, "--context-column tools"),
            ({"question": "a", "choices": ["x", "y"], "answer": "b"}, "--context-column choices"),
        ],
    )
    def test_a_column_that_looks_used_and_is_not(self, row, option):
        with pytest.warns(LorametaWarning, match=option):
            load_examples([row, row | {"n": 1}], require_output=False)
        _, name, column = (None, *option.removeprefix("--").rsplit(" ", 1))
        used = {"context_columns": [column]} if name == "context-column" else {"output_column": column}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, report = read_examples([row, {**row, next(iter(row)): [S, *row["messages"]] if "messages" in row else "z"}],
                                      require_output=False, **used)  # fmt: skip
        assert column in (*report.prompt, *report.answer)
        if name == "context-column":
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                other = {"question": "z"} if "question" in row else {"messages": [U, U, A]}
                load_examples([row, row | other], ignore_columns=[column])

    @pytest.mark.filterwarnings("error")
    def test_empty_columns_and_second_answers_are_no_reason(self):
        rows = [{"input": str(n), "output": "b", "category": "c", "passage": None, "choices": []} for n in range(2)]
        assert read_examples(rows)[1].left_out == ("category", "passage", "choices")

    def test_context_columns(self):
        rows = [{"premise": "p", "choices": ["x", 2], "hypothesis": str(n), "label": 0} for n in range(2)]
        found = load_examples(rows, input_column="hypothesis", context_columns=["premise", "choices"])
        assert found[0] == Example("p\n\nx\n2\n\n0", ("0",))
        with pytest.raises(DataError, match=r"no column 'premisse'.*--context-column 'premise'"):
            load_examples(rows, input_column="hypothesis", context_columns=["premisse"])
        with pytest.raises(UsageError, match="both 'a'"):
            load_examples(rows, input_column="a", context_columns=["a"])


class TestValues:
    def test_integers_that_a_missing_value_turned_into_floats(self, tmp_path):
        table = pa.table({"text": ["a", "b", "c"], "label": [1.0, None, 0.0]})
        pq.write_table(table, tmp_path / "a.parquet")
        (tmp_path / "a.csv").write_text("text,label\na,1.0\nb,\nc,0.0\n")
        for name in ("a.parquet", "a.csv"):
            with pytest.warns(LorametaWarning, match="integers that its 1 missing value"):
                found, report = read_examples(tmp_path / name, require_output=False)
            assert [row.outputs for row in found] == [("1",), (), ("0",)]
            assert report.labelled == 2

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("answers", [["1.0", "0.0"], ["1.0", "0.5", None], ["1.0", ".0", None]])
    def test_other_numbers_stay(self, answers):
        rows = [{"input": str(n), "output": answer} for n, answer in enumerate(answers)]
        assert [row.output for row in load_examples(rows, require_output=False)] == [one or "" for one in answers]

    def test_nul_characters_are_removed_with_a_word(self, tmp_path):
        (tmp_path / "a.csv").write_bytes(b"input,output\na\0b,c\nd,e\0\n")
        with pytest.warns(LorametaWarning, match="NUL characters were removed from 2 rows"):
            assert load_examples(tmp_path / "a.csv") == [Example("ab", ("c",)), Example("d", ("e",))]

    def test_names_of_classes(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
        dataset = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
        dataset.to_parquet(tmp_path / "a.parquet")
        dataset.save_to_disk(tmp_path / "saved")
        datasets.DatasetDict(train=dataset).save_to_disk(tmp_path / "dict")
        for source in (dataset, tmp_path / "a.parquet", tmp_path / "saved", tmp_path / "dict", dataset.data.table):
            found = load_examples(source, require_output=False)
            assert [row.outputs for row in found] == [("good",), ("bad",), ()]
        datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "two")
        with pytest.raises(DataError, match=r"the parts test, train: name one of them"):
            load_examples(tmp_path / "two")

    def test_classes_of_data_frames(self):
        pandas = pytest.importorskip("pandas")
        with pytest.raises(DataError, match="the class DataFrame"):
            load_examples(pandas.DataFrame)
        frame = pandas.DataFrame([["a", "b", "c"]] * 2, columns=["input", "output", "input"])
        with pytest.raises(DataError, match="'input' is there more than once"):
            load_examples(frame)


def test_the_line_says_what_was_done():
    rows = [{"instruction": "Do.", "context": str(n), "response": "b", "category": "c"} for n in range(2)]
    _, report = read_examples(rows)
    assert report.line() == (
        "Read 2 rows of the dataset: prompt from instruction and context, answer from response; left out: category."
    )
    assert report.as_dict()["left_out"] == ["category"]
    _, report = read_examples([{"text": "a"}, {"text": "b", "label": "x"}], require_output=False)
    assert report.line() == "Read 2 rows of the dataset: prompt from text, answer from label (1 row has one)."
