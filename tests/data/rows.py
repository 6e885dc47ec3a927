"""Rows, what they become, and the same as files of every text format."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from lorameta.data import Example

ROWS = [{"input": "wo ist mein Gepäck?", "output": "travel"}, {"input": 'a, b\n"c"; d', "output": "work"}]


EXAMPLES = [Example("wo ist mein Gepäck?", ("travel",)), Example('a, b\n"c"; d', ("work",))]


GOOD = b'{"input": "a", "output": "b"}\n'


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
