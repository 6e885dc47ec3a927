"""The card of an adapter (README.md of its directory): what it was mixed from, how far away that was, what was cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lorameta.adapter import licences
from lorameta.adapter.training_card import fitted, refined
from lorameta.errors import markdown, printable
from lorameta.files.links import is_directory

if TYPE_CHECKING:
    from lorameta.adapter import Adapter

#: Sources in the table of a card; a dense mixture has hundreds, and the JSON report has them all.
SHOWN = 40
#: Adapters that lack modules, and modules of each, that are named.
NAMED = 10
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def card(adapter: Adapter, *, run: Mapping[str, str] | None = None) -> str:
    """Model card in Markdown, with the Hub's front matter.

    Parameters
    ----------
    adapter : Adapter
    run : mapping of str to str, optional
        What differs from run to run and is therefore no part of the default card: command, versions, time, memory.

    Returns
    -------
    str
        The same adapter gives the same text.
    """
    base = _quoted(printable(adapter.base_model))
    size = f"rank {adapter.rank}, {len(adapter.modules)} modules, {adapter.num_parameters:,} parameters"
    revision = f", revision {markdown(adapter.base_revision)}" if adapter.base_revision else ""
    lines = ["---", *_front_matter(adapter), "---", "", "# LoRA adapter", ""]
    lines += [f"For the base model {markdown(base)}{revision}: {size}.", ""]
    lines += _rows(adapter)
    if adapter.weights:
        lines += _made(adapter)
    lines += [*_sources(adapter), *_licences(adapter)]
    if "fit" in adapter.report:
        lines += fitted(adapter.report["fit"])
    if "refinement" in adapter.report:
        lines += refined(adapter.report["refinement"])
    lines += [
        "## How to load it", "", "```python",
        "from peft import PeftModel", "from transformers import AutoModelForCausalLM", "",
        f"base = AutoModelForCausalLM.from_pretrained({base})",
        'model = PeftModel.from_pretrained(base, "THIS DIRECTORY OR REPOSITORY")',
        *_prompt(adapter.report.get("prompt_template")), "```", "",
    ]  # fmt: skip
    if run:
        lines += ["## How it was run", "", *(f"- {label}: {value}" for label, value in run.items()), ""]
    return "\n".join(lines)


def _prompt(template: object) -> list[str]:
    """Return the lines of Python that make a prompt of an input; none where inputs are whole prompts."""
    if not isinstance(template, str) or not template:
        return []
    return [f'prompt = {json.dumps(template)}.replace("{{input}}", "YOUR INPUT")']


def renamed_base(text: str, old: str, new: str) -> str:
    """Return a card whose base is called `new`, a Hub id, wherever it was called `old`, in the front matter too."""
    text = text.replace(old, new) if old else text
    front, line = text.partition("\n---")[0], f"base_model: {_quoted(new)}"
    if not text.startswith("---\n") or re.search(r"^base_model:", front, re.MULTILINE):
        return text
    return text.replace("---\n", f"---\n{line}\n", 1)


def conflicts(report: Mapping[str, Any]) -> list[str]:
    """Return what stands in the way of sharing an adapter; `report` is :attr:`lorameta.Adapter.report`."""
    sources = report.get("sources", {}).values()
    return licences.conflicts(licence for source in sources for licence in licences.of_source(source))


def _rows(adapter: Adapter) -> list[str]:
    """Return which rows of the Hub it was made for, so that they can be had again."""
    hub = _hub(adapter)
    if not hub:
        return []
    where = f"{markdown(str(hub.get('config')))}/{markdown(str(hub.get('split')))}"
    return [
        f"Made for the first {hub.get('rows')} rows of {where} of the dataset {markdown(str(hub.get('repo')))} on the "
        f"Hub, commit {markdown(str(hub.get('commit')))}.",
        "",
    ]


def _hub(adapter: Adapter) -> Mapping[str, Any]:
    return (adapter.report.get("read") or {}).get("hub") or {}


def _front_matter(adapter: Adapter) -> list[str]:
    """YAML that the Hub takes: a base or dataset that it does not have is left out, it would refuse the card."""
    sources = list(adapter.report.get("sources", {}).values())
    on_hub = _on_hub(adapter.base_model)
    lines = [f"base_model: {_quoted(adapter.base_model)}"] if on_hub else []
    lines += ["library_name: peft", "pipeline_tag: text-generation"]
    found = licences.front_matter(licence for source in sources for licence in licences.of_source(source))
    lines += [f"{key}: {value}" for key, value in found.items()]  # plain words of YAML, by their making
    rows = {str(source.get("source", {}).get("repo", "")) for source in sources if source.get("hub")}
    rows.add(str(_hub(adapter).get("repo", "")))
    if datasets := sorted(name for name in rows if _HUB_ID.fullmatch(name)):
        lines += ["datasets:", *(f"- {_quoted(name)}" for name in datasets)]
    tags = ["lora", "lorameta", *([f"base_model:adapter:{adapter.base_model}"] if on_hub else [])]
    return [*lines, "tags:", *(f"- {_quoted(tag) if ':' in tag else tag}" for tag in tags)]


def _made(adapter: Adapter) -> list[str]:
    report: Mapping[str, Any] = adapter.report
    lines = [
        "Generated by lorameta (method: arXiv 2507.01806) as a weighted sum of adapters, "
        + ("then trained further." if "refinement" in report else "without training."),
        "",
    ]
    facts = {
        "rows of the dataset": report.get("rows"),
        "bank": report.get("bank") and markdown(report["bank"]),
        "distance": report.get("distance"),
        "operator": report.get("operator") and ", ".join(_settings(report)),
        "largest weights kept": report.get("top_k"),
        "effective number of adapters ((Σ|w|)²/Σw²)": report.get("effective_number"),
        "combiner": report.get("combiner"),
    }
    if outside := report.get("outside"):
        facts["dataset covered by the bank"] = "no, it lies outside" if outside.get("outside") else "yes"
        facts["nearest adapter"] = (
            f"{markdown(outside['nearest'])}, at {outside['distance']:g} ({outside['typical']:g} is typical)"
        )
        facts["share of the bank's datasets that lie as far out"] = f"{outside['p_value']:.3f}"
    if errors := list(report.get("truncation_error", {}).values()):
        facts["relative truncation error"] = f"{fmean(errors):.4f} on average over modules, {max(errors):.4f} at most"
    if (verified := report.get("verified")) is not None:
        facts["files of the adapters"] = (
            "verified against the bank's hashes (SHA-256)" if verified else
            "checked for size and finite numbers, not against the bank's hashes (`lorameta bank check` does that)"
        )  # fmt: skip
    lines += [f"- {label}: {value}" for label, value in facts.items() if value is not None]
    return [*lines, *_absent(report.get("absent_modules") or {}), *_stages(report.get("auto") or {}), ""]


def _stages(auto: Mapping[str, Any]) -> Iterator[str]:
    """Yield how each stage of ``operator="auto"`` did on rows that it had not seen."""
    stages = [stage for stage in auto.get("stages", ()) if "loss" in stage]
    if stages:
        held = auto["held_out_rows"]
        yield f"- chosen automatically: {auto['chose']}; loss on {held} held-out rows after each stage:"
    for stage in stages:
        before = stage.get("before")
        own = f" (on its own held-out rows; {before['loss']:.4f} before it)" if before else ""
        dropped = "" if stage.get("kept", True) else ", dropped"
        yield f"  - {stage['name']}: {stage['loss']:.4f}, exact match {stage['exact_match']:.2f}{own}{dropped}"


def _absent(absent: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield which adapters lack modules that others change."""
    if not absent:
        return
    yield f"- modules that {len(absent)} of the adapters do not change, counted as zero there:"
    for name, modules in sorted(absent.items())[:NAMED]:
        more = f" and {len(modules) - NAMED} more" if len(modules) > NAMED else ""
        yield f"  - {markdown(name)}: {markdown(', '.join(modules[:NAMED]))}{more}"
    if len(absent) > NAMED:
        yield f"  - and {len(absent) - NAMED} adapters more"


def _parts(adapter: Adapter) -> dict[str, float | None]:
    """Return the adapters in a mixture with their weights; of one that was read back, names alone are known."""
    return {**adapter.weights} or dict.fromkeys(adapter.report.get("sources", {}))


def _sources(adapter: Adapter) -> list[str]:
    sources, distances = adapter.report.get("sources", {}), adapter.report.get("distances", {})
    ranked = sorted(_parts(adapter).items(), key=lambda item: (-abs(item[1] or 0.0), item[0]))
    if not ranked:
        return []
    lines = ["## What it was mixed from", ""]
    lines += ["| adapter | weight | distance | source of its rows | licence |", "|---|---:|---:|---|---|"]
    for name, weight in ranked[:SHOWN]:
        source = sources.get(name, {})
        hub = source.get("hub") or {}
        distance = f"{distances[name]:.6f}" if name in distances else ""
        origin = source.get("source", {})
        place = " ".join(str(origin[key]) for key in ("repo", "path") if origin.get(key))
        licence = source.get("licence") or ", ".join(source.get("licences", ()))
        if hub.get("licence") and hub["licence"] != licence:
            licence = f"rows: {licence or 'none said'}; adapter: {hub['licence']}"
        shown = f"{name} ({hub['repo']})" if hub.get("repo") else name
        cells = [shown, "" if weight is None else f"{weight:.6f}", distance, place, licence]
        lines.append("| " + " | ".join(markdown(cell) for cell in cells) + " |")
    if len(ranked) > SHOWN:
        rest = f" with a weight of {sum(weight or 0.0 for _, weight in ranked[SHOWN:]):.6f} in all"
        lines.append(f"\nand {len(ranked) - SHOWN} more{rest if adapter.weights else ''}.")
    return [*lines, ""]


def _licences(adapter: Adapter) -> list[str]:
    """Return what each licence asks for, how much of the mixture is under it, and which do not go together."""
    sources = adapter.report.get("sources", {})
    if not sources:
        return []
    parts: dict[str, list[str]] = {}
    found: dict[str, licences.Licence] = {}
    mixed = _parts(adapter)
    for name in mixed:
        for licence in licences.of_source(sources.get(name, {})):
            found[licence.id] = licence
            parts.setdefault(licence.id, []).append(name)
    lines = ["## Licences", "", "What the sources ask for, and may ask for of what derives from them:", ""]
    for key in sorted(found):
        names = parts[key]
        weight = f", weight {sum(mixed[name] or 0.0 for name in names):.4f}" if adapter.weights else ""
        count = f"{len(names)} adapter{'s' * (len(names) > 1)}"
        lines.append(f"- {markdown(found[key].obligation().removesuffix('.'))} ({count}{weight})")
    lines.append("")
    against = licences.conflicts(found.values())
    if against:
        lines += ["These do not go together:", "", *(f"- {markdown(sentence)}" for sentence in against), ""]
    elif len(found) > 1:
        lines += ["None of them is known to stand against another.", ""]
    lines += [f"- {markdown(sentence)}" for sentence in licences.doubts(found.values())]
    return [*lines, *([""] if lines[-1] else []), licences.NOTE, ""]


def _settings(report: Mapping[str, Any]) -> list[str]:
    """Return the operator, its temperature if it has one, and its own options."""
    temperature = report.get("temperature")
    return [
        report["operator"],
        *([] if temperature is None else [f"temperature {temperature:g}"]),
        *(f"{name.replace('_', ' ')} {value:g}" for name, value in report.get("operator_details", {}).items()),
    ]


def _on_hub(base: str) -> bool:
    """Check whether a base's name can be one of the Hub, and no directory is meant by it."""
    return _HUB_ID.fullmatch(base) is not None and not is_directory(Path(base))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string
