"""What reading a dataset made of its columns: which became prompts and answers, which were left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
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
    hub : dict
        Of a dataset of the Hub: ``repo``, ``commit``, ``config``, ``split`` and ``rows``.
    """

    source: str
    rows: int
    labelled: int
    prompt: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    hub: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """Return the report as one line of text."""
        many = f" ({len(self.files)} files)" if self.files and not self.source.endswith(" files") else ""
        if self.hub:
            many = f" (the Hub, {self.hub['config']}/{self.hub['split']} at {self.hub['commit'][:12]})"
        if self.labelled == self.rows:
            answers = f"answer from {_listed(self.answer)}" if self.answer else "with answers"
        elif self.labelled:
            have = "row has" if self.labelled == 1 else "rows have"
            answers = f"answer from {_listed(self.answer)} ({self.labelled} {have} one)"
        else:
            answers = "no answers"
        prompt = f"prompt from {_listed(self.prompt)}, " if self.prompt else ""
        left = f"; left out: {_listed(self.left_out)}" if self.left_out else ""
        notes = f"; {'; '.join(self.notes)}" if self.notes else ""
        return f"Read {self.rows} row{'s' * (self.rows != 1)} of {self.source}{many}: {prompt}{answers}{left}{notes}."

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {name: value for name, value in values.items() if value or name not in ("files", "notes", "hub")}


def read_alike(reports: Iterable[ReadReport]) -> list[str]:
    """Return one line for all datasets of which the same columns were used, most of them first."""
    alike: dict[tuple[Any, ...], list[ReadReport]] = {}
    for report in reports:
        alike.setdefault((report.prompt, report.answer, report.left_out, report.labelled == 0), []).append(report)
    lines = []
    for (prompt, answer, left_out, _), group in sorted(alike.items(), key=lambda item: -len(item[1])):
        rows, labelled = sum(one.rows for one in group), sum(one.labelled for one in group)
        name = group[0].source if len(group) == 1 else f"{len(group)} datasets"
        together = ReadReport(name, rows, labelled, prompt, answer, left_out)
        lines.append(together.line().removesuffix("."))
    return lines[:12] + ([f"{len(lines) - 12} more kinds of datasets were read"] if lines[12:] else [])


def _listed(columns: tuple[str, ...]) -> str:
    shown = [name[:40] or "(no name)" for name in columns[:8]]
    if len(columns) > 8:
        return f"{', '.join(shown)} and {len(columns) - 8} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
