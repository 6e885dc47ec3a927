"""The sections of a report: each takes the whole report and returns HTML, "" where there is nothing to say."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from lorameta.data import Example, PromptTemplate
from lorameta.report.html import charts
from lorameta.report.html.page import details, facts, figure, note, number, paragraph, table

#: Adapters in charts, and in the table before the rest is folded away.
SHOWN = 15
#: Adapters in a table that is unfolded, characters of a text, and of all answers together: a page stays below 1 MB.
LISTED, LONGEST_TEXT, ANSWERS = 1000, 2000, 400_000
METRICS = {"exact_match": "exact match", "rouge_l": "ROUGE-L", "loss": "loss per token"}
Report = Mapping[str, Any]


def read(report: Report) -> str:
    """Return the rows and columns."""
    rows = report.get("rows")
    about: Mapping[str, Any] = report.get("read") or {}
    items = [("Rows", number(int(rows)))] if rows is not None else []
    if about:
        listed = {"labelled": "Rows with an answer", "prompt": "Prompt from", "answer": "Answer from",
                  "left_out": "Columns left out", "files": "Files", "notes": "Changed"}  # fmt: skip
        for key, label in listed.items():
            if (value := about.get(key)) not in (None, [], ()):
                items.append((label, number(value) if isinstance(value, int) else _text(", ".join(map(str, value)))))
    if hub := about.get("hub"):
        items += [("From the Hub", escape(f"{hub['repo']}, {hub['config']}/{hub['split']}"))]
        items += [("Commit", escape(str(hub["commit"])))]
    template = PromptTemplate.from_dict(report.get("prompt"))
    if template is not None and (template.prefix or template.suffix):
        items.append(("Prompt that the rows share", _shared(template)))
    return facts(items) if items else ""


def place(report: Report) -> str:
    """Return the map, how unusual the dataset is, and what gain to expect."""
    content = ""
    found: Mapping[str, Any] = report.get("map") or {}
    if found:
        near = ", ".join(found["nearest"])
        about = (
            f"Each of {len(found['ids'])} points is the dataset behind an adapter, the larger the heavier it is in the "
            f"mixture; the diamond is your dataset. Its nearest neighbours are {near}. Two axes carry "
            f"{found['share']:.0%} of what the distances span."
        )
        content += figure(
            charts.scatter(found["points"], found["ids"], found["weights"], "Map of the bank", about), about
        )
    items = []
    if outside := report.get("outside"):
        items += [
            ("Lies outside the bank", "yes" if outside["outside"] else "no"),
            ("Nearest dataset", f"{escape(str(outside['nearest']))}, at {number(outside['distance'])}"),
            ("Typical inside the bank", number(outside["typical"])),
            ("Share of the bank's datasets that lie as far out", number(outside["p_value"])),
        ]
    for metric, gain in (report.get("forecast") or {}).items():
        named = METRICS.get(metric, metric)
        label = f"Expected drop of the {named}" if metric == "loss" else f"Expected gain in {named}"
        items.append((label, f"{number(gain['estimate'])} ({number(gain['low'])} to {number(gain['high'])})"))
    if "forecast" in report and not report["forecast"]:
        items.append(("Expected gain", "not known: the bank has no leave-one-out record for these settings"))
    return content + (facts(items) if items else "")


def weights(report: Report) -> str:
    """Return the weights as bars, all of them with distances as a table."""
    found: Mapping[str, float] = report.get("weights") or {}
    if not found:
        return ""
    ranked = sorted(found.items(), key=lambda item: -abs(item[1]))
    distances: Mapping[str, float] = report.get("distances") or {}
    settings = [str(report["operator"])] if report.get("operator") else []
    settings += [f"{name.replace('_', ' ')} {report[name]}" for name in ("temperature", "top_k") if report.get(name)]
    items = [("Operator", escape(", ".join(settings)))] if settings else []
    items += [("Distance", escape(str(report["distance"])))] if report.get("distance") else []
    items += [("Adapters in the mixture", number(len(found)))]
    if report.get("effective_number") is not None:
        items.append(("Effective number", number(report["effective_number"])))
    items += [("Combiner", escape(str(report["combiner"])))] if report.get("combiner") else []
    if errors := list((report.get("truncation_error") or {}).values()):
        items.append(("Largest truncation error of a module", number(max(errors))))
    rows = [
        (escape(name), number(weight), number(distances[name], 4) if name in distances else "")
        for name, weight in ranked
    ]
    shown = dict(ranked[:SHOWN])
    said = f"The {len(shown)} largest weights." if len(shown) < len(ranked) else "The weights."
    chart = figure(charts.bars(shown, "Largest weights"), said)
    whole = table("Weight and distance of each adapter", ["adapter", "weight", "distance"], rows[:LISTED], "<>>")
    return facts(items) + chart + details(_all(len(rows), "weights"), whole)


def stages(report: Report) -> str:
    """Return what each stage did to the loss on held-out rows."""
    auto: Mapping[str, Any] = report.get("auto") or {}
    found = auto.get("stages") or report.get("stages") or []
    content = ""
    if auto.get("chose"):
        content += paragraph(f"Chosen: {auto['chose']}, since {auto.get('why', 'it was best')}.")
    if not found:
        return content
    rows, before = [], None
    for stage in found:
        own = (stage.get("before") or {}).get("loss", before)
        loss = stage.get("loss")
        rows.append(
            (
                escape(str(stage.get("name", ""))),
                number(own) if own is not None else "",
                number(loss) if loss is not None else "not measured",
                number(stage["exact_match"]) if stage.get("exact_match") is not None else "",
                "" if "kept" not in stage else "kept" if stage["kept"] else "dropped",
            )
        )
        if loss is not None and stage.get("kept", True):
            before = loss
    held = auto.get("held_out_rows")
    caption = "Loss on held-out rows before and after each stage" + (f" ({held} rows)" if held else "")
    return content + table(caption, ["stage", "loss before", "loss after", "exact match", ""], rows, "<>>><")


def training(report: Report) -> str:
    """Return the learning curve and the facts of a refinement."""
    about: Mapping[str, Any] = report.get("refinement") or {}
    if not about:
        return ""
    items = [
        ("Steps", number(about["steps"])),
        ("Loss on held-out rows", f"{number(about['loss_at_start'], 4)} → {number(about['loss'], 4)}"),
        ("Best step", number(about["best_step"])),
        ("Held-out rows", number(about["held_out"])),
        ("Tokens", number(about["tokens"])),
        ("Seconds", number(about["seconds"], 1)),
        ("Peak memory in MB", number(about["peak_memory_mb"])),
    ]
    points = [(float(step), float(loss)) for step, loss in about.get("history", ())]
    chart = ""
    if len(points) > 1:
        drawn = charts.curve(points, "Learning curve", "step", "loss on held-out rows")
        chart = figure(drawn, "Loss on held-out rows by step.")
    warning = note(f"The training diverged at {about['diverged']}.") if about.get("diverged") else ""
    return warning + chart + facts(items)


def scores(report: Report) -> str:
    """Return every mean with its interval."""
    found: Mapping[str, Mapping[str, Any]] = report.get("scores") or {}
    if not found:
        return ""
    rows = []
    for name, score in found.items():
        cells = []
        for metric in METRICS:
            low, high = (score.get("intervals") or {}).get(metric, (None, None))
            between = "" if low is None else f" [{number(low)}, {number(high)}]"
            cells.append(number(score[metric]) + between)
        rows.append((escape(name), number(int(score["rows"])), *cells))
    caption = "Means over the rows, with 95 % intervals"
    return table(caption, ["model", "rows", *METRICS.values()], rows, "<>>>>")


def labels(report: Report) -> str:
    """Return the confusion of each model."""
    content = ""
    for name, found in (report.get("confusion") or {}).items():
        rows = [
            (escape(label), *(number(count) for count in row))
            for label, row in zip(found["labels"], found["counts"], strict=True)
        ]
        content += table(
            f"{name}: labels that were wanted (rows) and answered (columns)", ["", *found["columns"]], rows,
            "<" + ">" * len(found["columns"]),
        )  # fmt: skip
    return content


def answers(report: Report) -> str:
    """Answers side by side."""
    rows = report.get("answers") or []
    if not rows:
        return paragraph(report["no_answers"]) if report.get("no_answers") else ""
    models = list(rows[0]["models"])
    shared = PromptTemplate.of([Example(row["prompt"], tuple(row["references"])) for row in rows])
    body: list[tuple[str, ...]] = []
    size = 0
    for row in rows:
        if size > ANSWERS:
            break
        cells = []
        for name in models:
            one = row["models"][name]
            right = one.get("exact_match")
            mark = "" if right is None else ("<span class='good'>✓ right</span><br>" if right else
                                             "<span class='bad'>✗ wrong</span><br>")  # fmt: skip
            cells.append(mark + _text(one["answer"]))
        body.append((_text(shared.bare(row["prompt"])), _text(" | ".join(row["references"])), *cells))
        size += sum(map(len, body[-1]))
    some = "" if len(body) == len(rows) else f": the first {len(body)} of {len(rows)} rows (--json has them all)"
    found = table(f"What each model answered{some}", ["input", "wanted", *models], body, stacked=True)
    about = report.get("answers_note")
    around = facts([("Around each input", _shared(shared))]) if shared.prefix or shared.suffix else ""
    return (paragraph(about) if about else "") + around + found


def _shared(template: PromptTemplate) -> str:
    """Return what is around an input, with its line breaks."""
    return f"<pre style='white-space:pre-wrap;margin:0'>{_text(f'{template.prefix}…{template.suffix}')}</pre>"


def _text(text: str) -> str:
    """Return a text in a table, without its end where it is very long."""
    more = len(text) - LONGEST_TEXT
    return escape(text if more <= 0 else f"{text[:LONGEST_TEXT]}… ({more:,} characters more)")


def _all(count: int, what: str) -> str:
    return f"All {count} {what}" if count <= LISTED else f"The first {LISTED} of {count} {what}"


def costs(report: Report) -> str:
    """Return the seconds, memory, energy."""
    items = [(f"Seconds: {name}", number(float(value))) for name, value in _seconds(report).items()]
    whole = report.get("total_seconds", report["seconds"] if isinstance(report.get("seconds"), float) else None)
    if whole is not None:
        items.append(("Seconds in all", number(whole, 2)))
    memory = report.get("peak_memory_mb", report.get("process_peak_memory_mb"))
    items.append(("Peak memory in MB", number(memory)))
    energy = report.get("energy_joules")
    told = f"{number(energy, 1)} (the whole machine, from its RAPL counters)" if energy is not None else (
        "not known: this machine does not let its counters (RAPL) be read")  # fmt: skip
    items.append(("Energy in joules", told))
    return facts(items)


def _seconds(report: Report) -> Mapping[str, float]:
    found = report.get("seconds")
    return found if isinstance(found, Mapping) else {}


def provenance(report: Report) -> str:
    """Sources and licences of what was mixed."""
    from lorameta.adapter import licences

    found: Mapping[str, Mapping[str, Any]] = report.get("sources") or {}
    if not found:
        return ""
    mixed: Mapping[str, float] = report.get("weights") or {}
    rows, all_licences = [], []
    for name in sorted(found, key=lambda name: -abs(mixed.get(name, 0.0))):
        own = list(licences.of_source(found[name]))
        all_licences += own
        origin = found[name].get("source") or {}
        where = " ".join(str(origin[key]) for key in ("repo", "path") if origin.get(key))
        rows.append((escape(name), escape(where), escape(", ".join(one.id for one in own) or "none said")))
    against = "".join(note(sentence) for sentence in licences.conflicts(all_licences))
    whole = table("Sources of the adapters", ["adapter", "source of its rows", "licence"], rows[:LISTED])
    counts = {one.id: one for one in all_licences}
    listed = "".join(f"<li>{escape(counts[key].obligation())}</li>" for key in sorted(counts))
    return f"{against}<ul>{listed}</ul>" + details(_all(len(rows), "sources"), whole) + paragraph(licences.NOTE)
