"""What a verb found, the very object that `--json` prints, as a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from lorameta.report.html import sections
from lorameta.report.html.page import facts, page

Section = Callable[[Mapping[str, Any]], str]

SECTIONS: dict[str, Section] = {
    "What was read": sections.read,
    "The dataset among those of the bank": sections.place,
    "Weights": sections.weights,
    "Stages": sections.stages,
    "Training": sections.training,
    "Scores": sections.scores,
    "Labels": sections.labels,
    "Answers": sections.answers,
    "What it took": sections.costs,
    "Where it comes from": sections.provenance,
}


def html_report(verb: str, report: Mapping[str, Any]) -> str:
    """Make the page.

    Parameters
    ----------
    verb : str
        What was run: ``generate``, ``explain``, ``evaluate``, ``refine`` or ``finetune``.
    report : mapping
        What the verb prints with ``--json``. ``map`` and ``answers`` come with ``--html`` alone.

    Returns
    -------
    str
        A document of its own. Sections that the report has nothing for are left out.
    """
    from lorameta import __version__

    built = [(heading, section(report)) for heading, section in SECTIONS.items()]
    title = f"lorameta {verb}: {report.get('data', 'a dataset')}"
    return page(title, [("In short", facts(_short(report))), *built], f"Written by lorameta {__version__}.")


def _short(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = {"data": "Dataset", "adapter": "Adapter", "base_model": "Base model", "bank": "Bank"}
    return [(label, escape(str(report[key]))) for key, label in named.items() if report.get(key)]
