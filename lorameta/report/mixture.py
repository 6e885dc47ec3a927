"""The mixture behind an adapter in plain text: which adapters, how near, with what weight, at what error."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from lorameta.report.table import bar, table, terminal_width

BAR_CELLS = 20


def weights_table(report: Mapping[str, Any], families: Mapping[str, str], *, show: int = 10) -> str:
    """Return the first adapters of a mixture with distance and weight, absolute weights also as bars.

    Parameters
    ----------
    report : mapping
        ``Mixture.report()`` or ``Adapter.report``: its ``distances`` come largest weight first.
    families : mapping of adapter id to family
    show : int
        Rows at most; a last line says what the others weigh together.

    Returns
    -------
    str
    """
    weights: Mapping[str, float] = report["weights"]
    distances: Mapping[str, float] = report["distances"]
    beside = [name for name in weights if name not in distances]  # the adapter of all tasks
    shown = [*beside, *distances][:show]
    largest = max(map(abs, weights.values()))
    rows = [
        [
            name,
            families.get(name, ""),
            f"{distances[name]:.4f}" if name in distances else "",
            f"{weights.get(name, 0.0):.3f}",
            bar(abs(weights.get(name, 0.0)) / largest, cells=BAR_CELLS),
        ]
        for name in shown
    ]
    lines = [table(["adapter", "family", "distance", "weight", ""], rows, align="<<>><")]
    rest = [name for name in distances if name not in shown]
    if rest:
        lines.append(f"and {len(rest)} more with a weight of {sum(weights.get(n, 0.0) for n in rest):.3f} in all")
    return "\n".join(lines)


def mixture_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and value of what one wants to know about a mixture beside its weights."""
    weights = report["weights"]
    options = [f"operator {report['operator']}"]
    if report.get("temperature") is not None:
        options.append(f"temperature {report['temperature']:g}")
    if report.get("top_k") is not None:
        options.append(f"top {report['top_k']}")
    options += [f"{name.replace('_', ' ')} {value:g}" for name, value in report.get("operator_details", {}).items()]
    simple = min(weights.values()) >= 0 and abs(sum(weights.values()) - 1) < 1e-6
    meaning = "1 / sum of squared weights" if simple else "squared sum of absolute weights / sum of squared weights"
    lines = [
        ("Weights by", ", ".join(options)),
        ("Adapters in the mixture", _counted(weights, report["distances"])),
        ("Effective number", f"{report['effective_number']:.1f}  ({meaning})"),
    ]
    if not simple:
        below = sum(weight for weight in weights.values() if weight < 0)
        lines.append(("Sum of weights", f"{sum(weights.values()):.3f}" + (f", {below:.3f} below 0" if below else "")))
    lines += _auto(report.get("auto") or {})
    if report.get("outside"):
        from lorameta.mixing.novelty import Unusual

        lines.append(("Place", Unusual(**{k: v for k, v in report["outside"].items() if k != "outside"}).message()))
    if forecast := report.get("forecast"):
        lines.append(("Expected gain", "; ".join(_expected(name, found) for name, found in forecast.items())))
    errors = report.get("truncation_error")
    if errors is not None:
        values = list(errors.values()) or [0.0]
        label, how = "Truncation error", f"cut to rank {report['rank']} by {report['combiner']}"
        if report["combiner"] == "factor":
            label, how = "Off the exact sum by", "the factors are averaged; --combiner delta is exact"
        lines.append((label, f"{fmean(values):.3f} on average, {max(values):.3f} at most  ({how})"))
    return lines


def _counted(weights: Mapping[str, float], distances: Mapping[str, float]) -> str:
    beside = [name for name in weights if name not in distances]
    return " and the ".join([f"{len(weights) - len(beside)} of {len(distances)}", *beside])


def _auto(auto: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what `operator="auto"` chose, why, what each stage did on held-out rows, and what more would change."""
    if not auto:
        return
    yield "Chosen", f"{auto['chose']}, since {auto['why']}"
    for stage in auto["stages"]:
        told = (
            f"loss {stage['loss']:.3f}, exact match {stage['exact_match']:.0%}" if "loss" in stage else "not measured"
        )
        rows = f"{auto.get('held_out_rows')} held-out rows"
        if before := stage.get("before"):
            told += f", before it {before['loss']:.3f} and {before['exact_match']:.0%}"
            rows = "rows held out of it"
        dropped = "" if stage.get("kept", True) else ", dropped"
        yield f"  {stage['name']}", f"{told} on {rows}{dropped}"
    if "precision" in auto:
        yield "  Passes", f"of the base model over the rows in {auto['precision']}"
    if auto["more"]:
        yield "  More", "; ".join(auto["more"])


def _expected(metric: str, found: Mapping[str, float]) -> str:
    """Return a forecast in words; a lower loss is a gain."""
    from lorameta.mixing.forecast import LEVEL

    name = {"exact_match": "exact match", "rouge_l": "ROUGE-L", "loss": "loss (less is more)"}.get(metric, metric)
    sign = -1 if metric == "loss" else 1
    low, high = sorted(sign * found[end] for end in ("low", "high"))
    return f"{name} {sign * found['estimate']:+.2f} ({LEVEL:.0%} of the time {low:+.2f} to {high:+.2f})"


def aligned(lines: list[tuple[str, str]]) -> str:
    """Labels and values in two columns; a value that is too long for the terminal goes on below itself."""
    indent = max(len(label) for label, _ in lines) + 2
    width = max(terminal_width() - indent, 20)
    shown = []
    for label, value in lines:
        first, *others = textwrap.wrap(value, width, break_long_words=False, break_on_hyphens=False) or [""]
        shown += [label.ljust(indent) + first, *(" " * indent + line for line in others)]
    return "\n".join(line.rstrip() for line in shown)


def compared(report: Mapping[str, Any], bank: str) -> str:
    """One sentence: with what the dataset was compared, and by which distance."""
    from lorameta.distance import DISTANCES

    name = report["distance"]
    known = DISTANCES.get(name)
    return f'Compared with the {len(report["distances"])} adapters of the bank "{bank}" by ' + (
        f"the {known.doc} ({name})." if known else f"the distance {name}."
    )
