"""The answers behind the scores: row by row, a few of them to read, and labels against labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lorameta.data import Example, PromptTemplate
from lorameta.report.table import fit, table, terminal_width

if TYPE_CHECKING:
    from lorameta.evaluate import Scores

#: Rows of each kind, wrong and right, that are shown.
SHOWN = 3
#: Different answers at most, and rows per answer at least, of a task that is about labels.
MOST_LABELS, ROWS_PER_LABEL = 20, 2
OTHER = "(another answer)"


def answers(examples: Sequence[Example], scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Return one JSON-able entry per row: prompt, references, and what each model said.

    Each model has ``{"answer", "exact_match", "rouge_l"}``.
    """
    return [
        {
            "prompt": example.input,
            "references": list(example.outputs),
            "models": {
                name: {
                    "answer": score.predictions[i],
                    "exact_match": score.by_row["exact_match"][i],
                    "rouge_l": round(score.by_row["rouge_l"][i], 5),
                }
                for name, score in scores.items()
            },
        }
        for i, example in enumerate(examples)
    ]


def chosen(rows: Sequence[Mapping[str, Any]], model: str, count: int = SHOWN) -> list[dict[str, Any]]:
    """Return some rows that `model` answered wrong, then some that it answered right, spread over all rows.

    Each is a row of :func:`answers` with its ``row``, from 1, and whether it is ``right``.
    """
    found = []
    for right in (False, True):
        kind = [i for i, row in enumerate(rows) if bool(row["models"][model]["exact_match"]) is right]
        picked = sorted({kind[(len(kind) - 1) * k // max(1, count - 1)] for k in range(count)}) if kind else []
        found += [{"row": i + 1, "right": right, **rows[i]} for i in picked]
    return found


def confusion(examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, Any] | None:
    """Count answers by label and prediction; None if the references are no labels.

    Returns
    -------
    dict or None
        ``labels``, the most frequent first; ``columns``, the labels and what stands for every other answer; ``counts``,
        a row for each label, a column for each of the columns.
    """
    found = Counter(example.output.strip() for example in examples)
    if not 2 <= len(found) <= min(MOST_LABELS, len(examples) // ROWS_PER_LABEL):
        return None
    labels = sorted(found, key=lambda label: (-found[label], label))
    columns = [*labels, OTHER]
    counts = [[0] * len(columns) for _ in labels]
    for example, prediction in zip(examples, predictions, strict=True):
        column = labels.index(prediction.strip()) if prediction.strip() in found else len(labels)
        counts[labels.index(example.output.strip())][column] += 1
    return {"labels": labels, "columns": columns, "counts": counts}


def confusion_table(found: Mapping[str, Any]) -> str:
    """Lay out a confusion as text; columns that nothing was put into are left out."""
    used = [i for i, _ in enumerate(found["columns"]) if any(row[i] for row in found["counts"])]
    headers = ["wanted \\ answered", *(fit(found["columns"][i], 18) for i in used)]
    rows = [
        [label, *(row[i] or "." for i in used)] for label, row in zip(found["labels"], found["counts"], strict=True)
    ]
    return table(headers, rows, align="<" + ">" * len(used))


def answers_text(
    rows: Sequence[Mapping[str, Any]], examples: Sequence[Example], model: str, *, within: str = ""
) -> str:
    """Show some wrong and some right answers of `model`, beside what the other models said.

    `within` is the bank's template, which is not shown, and neither is what the prompts have in common.
    """
    inner = PromptTemplate.of(examples, within=within)
    before, _, after = within.partition("{input}")
    template = PromptTemplate(before + inner.prefix, inner.suffix + after)
    width = terminal_width()
    lines = []
    for row in chosen(rows, model):
        lines.append(f"{'right' if row['right'] else 'wrong'}, row {row['row']}")
        told = [("input", template.bare(row["prompt"])), ("wanted", " | ".join(row["references"]))]
        told += [(name, found["answer"]) for name, found in row["models"].items()]
        label = max(len(name) for name, _ in told) + 2
        lines += [f"  {name.ljust(label)}{fit(text, max(20, width - label - 2))}" for name, text in told]
    return "\n".join(lines)
