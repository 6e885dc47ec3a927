"""What the answers of each column look like: integers that became floats, marks of missing values, bad answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lorameta.data.example import Example
from lorameta.data.values import plain

#: How databases, spreadsheets and data frames write that there is no value.
MISSING = ("nan", "NaN", "null", "NULL", "\\N", "<NA>", "#N/A")


@dataclass
class AnswerCounts:
    """Of one column: rows without an answer, answers as 1.0, other ones, and those that may stand for none."""

    absent: int = 0
    whole: int = 0
    other: int = 0
    marks: Counter[str] = field(default_factory=Counter)

    def add(self, answers: tuple[str, ...]) -> None:
        """Count the answers of a row."""
        if not answers:
            self.absent += 1
        elif len(answers) == 1 and answers[0].endswith(".0") and answers[0][:-2].lstrip("-").isdecimal():
            self.whole += 1
        else:
            self.other += 1
            if answers[0] in MISSING:
                self.marks[answers[0]] += 1


def is_bad_answer(row: Mapping[str, Any], column: str) -> bool:
    """Check whether a row, as rows for KTO, says with a false `label` that its answer is a bad one."""
    if column == "label" or "label" not in row:
        return False
    label = plain(row["label"])
    return label is False or (isinstance(label, str) and label.strip().lower() == "false")


def integers(examples: list[Example], columns: Mapping[str, AnswerCounts], notes: list[str]) -> list[Example]:
    """Write 1.0 as 1 where all answers are such and some are missing: a column of integers cannot hold none."""
    column, counts = next(iter(columns.items()), ("", None))
    if counts is None or len(columns) > 1 or counts.other or not (counts.whole and counts.absent):
        return examples
    notes.append(f"`{column}` holds integers that its {counts.absent} missing values had turned into {counts.whole} "
                 "numbers as 1.0; they are read as 1")  # fmt: skip
    return [replace(row, outputs=(row.outputs[0].removesuffix(".0"),)) if row.outputs else row for row in examples]


def doubts(columns: Mapping[str, AnswerCounts], bad: int) -> Iterator[str]:
    """Yield what may not have been meant by the answers that were read; `bad` of them are marked as bad ones."""
    for column, counts in columns.items():
        for mark, number in counts.marks.items():
            if number < counts.other + counts.whole:
                have = "answer is" if number == 1 else "answers are"
                yield f"{number} {have} {mark!r} in `{column}`: where that says that there is none, leave it empty"
    if bad:
        yield (
            f"{bad} answers are marked as bad ones by a false `label`, as in rows for KTO, and are used like the "
            "others: take these rows out, or say --ignore-column label"
        )
