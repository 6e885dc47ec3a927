"""Every form of a row, and what is said of rows that cannot be used."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from lorameta.data import Example, load_examples
from lorameta.errors import DataError
from tests.data.rows import GOOD, ROWS


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
        found = load_examples(rows, require_output=False)[0]
        assert found == Example(prompt, outputs)
        said = [(role.title(), text.strip()) for role, text in (message.split(": ", 1) for message in messages)]
        said = [("System" if role == "Developer" else role, text) for role, text in said]
        assert list(found.turns) == (said[:-1] if outputs else said)

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
