"""What reading a dataset made of its columns: which became prompts and answers, which were left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReadReport:
    """What was made of the columns of a dataset.

    Attributes
    ----------
    source : str
        The file, folder or pattern; "the dataset" for rows in memory.
    rows, labelled : int
        How many rows there are, and how many of them have an answer.
    prompt, answer : tuple of str
        Columns whose values are in prompts and answers of at least one row, in the order of their use.
    left_out : tuple of str
        Columns of which no row uses the value.
    files : tuple of str
        The files that were read, if there is more than one.
    notes : tuple of str
        What was changed in values: characters removed, numbers rewritten, names of classes put in.
    """

    source: str
    rows: int
    labelled: int
    prompt: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the report as one line of text."""
        many = f" ({len(self.files)} files)" if self.files else ""
        if self.labelled == self.rows:
            answers = f"answer from {_listed(self.answer)}" if self.answer else "with answers"
        elif self.labelled:
            answers = f"answer from {_listed(self.answer)} ({self.labelled} rows have one)"
        else:
            answers = "no answers"
        prompt = f"prompt from {_listed(self.prompt)}, " if self.prompt else ""
        left = f"; left out: {_listed(self.left_out)}" if self.left_out else ""
        notes = f"; {'; '.join(self.notes)}" if self.notes else ""
        return f"Read {self.rows} rows of {self.source}{many}: {prompt}{answers}{left}{notes}."

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values: dict[str, Any] = {
            "source": self.source,
            "rows": self.rows,
            "labelled": self.labelled,
            "prompt": list(self.prompt),
            "answer": list(self.answer),
            "left_out": list(self.left_out),
        }
        if self.files:
            values["files"] = list(self.files)
        if self.notes:
            values["notes"] = list(self.notes)
        return values


def _listed(columns: tuple[str, ...]) -> str:
    shown = [name[:40] or "(no name)" for name in columns[:8]]
    if len(columns) > 8:
        return f"{', '.join(shown)} and {len(columns) - 8} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
