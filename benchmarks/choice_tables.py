"""Tables of what was chosen, and of how much labelled rows are worth; `benchmarks.tables` writes them."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.common import RESULTS, ROOT, load, table

DEFAULT_BANK = ROOT / "adapter_bank" / "smollm2" / "bank.json"

#: Ways of using labelled rows: what the table calls them, and what stands around the number in the method's name.
LABEL_WAYS = (
    ("auto", "auto, ", ""),
    ("readout fit without the bank", "fit without bank, ", ""),
    ("LoRA by gradient descent, seconds of auto", "fine-tuned on ", ", seconds of auto"),
    ("LoRA by gradient descent, three epochs", "fine-tuned on ", ", to its end"),
)
COUNTS = (4, 16, 64, 128, 256)
#: What is compared in pairs, and with which controls.
PAIRS = {
    "normalized js": ("random bank", "uniform", "shuffled weights", "nearest js"),
    "transfer": ("uniform", "normalized js"),
    "multi_task": ("random bank", "uniform", "normalized js", "transfer", "multi-task adapter"),
    "trial": ("random bank", "uniform", "normalized js", "multi_task"),
    "auto, 128 rows": (
        "normalized js", "multi_task", "trial", "random bank", "multi-task adapter", "few-shot prompt, 5",
        "fit without bank, 128 rows", "fine-tuned on 128 rows, seconds of auto", "own adapter",
    ),
}  # fmt: skip


def labels_table() -> list[str]:
    """Exact match, loss and CPU seconds along the number of labelled rows, by way of using them."""
    if not (RESULTS / "labels_smollm2.json").is_file():
        return ["Not measured."]
    found = load("labels_smollm2")
    lines = found["settings"]["loo"]
    rows = []
    for name, start, end in LABEL_WAYS:
        cells = []
        for count in COUNTS:
            line = lines.get(f"{start}{count} rows{end}")
            cells.append("" if line is None else
                         f"{line['exact_match']:.2f} / {line['loss']:.2f} ({line['cpu_seconds']:.0f} s)")  # fmt: skip
        rows.append([name, *cells])
    head = [f"{found['tasks']} tasks: exact match / loss (CPU seconds)", *(f"{count} labels" for count in COUNTS)]
    return table(head, rows)


def pairs_table(study: dict[str, Any]) -> list[str]:
    """Differences on the same tasks, with their intervals: the mixtures and `auto` against each control."""
    lines = study["settings"]["loo"]
    rows = []
    for name, controls in PAIRS.items():
        for control in (c for c in controls if name in lines and c in lines):
            cells = []
            for metric, form in (("exact_match", "+.3f"), ("loss", "+.2f")):
                mean, *ends = over(lines, name, control, metric)
                cells.append(f"{mean:{form}} ({ends[0]:{form}} to {ends[1]:{form}})")
            rows.append([name, control, *cells])
    return table([f"{study['tasks']} tasks", "against", "exact match (95 %)", "loss (95 %)"], rows)


def over(lines: dict[str, Any], name: str, control: str, metric: str) -> list[float]:
    """Mean difference between two methods on the same tasks, and the ends of its interval."""
    found = lines[name].get("over", {}).get(control)
    if found is not None:
        return list(found[metric])
    mean, low, high = lines[control]["over"][name][metric]
    return [-mean, -high, -low]


def settings_table() -> list[str]:
    """What one half of the tasks would choose, on the other half beside the defaults."""
    if not (RESULTS / "settings.json").is_file():
        return ["Not measured."]
    rows = []
    for kind, by_half in load("settings")["halves"].items():
        for half, line in by_half.items():
            there, default, apart = line["there"], line["default_there"], line["against_default"]
            rows.append([f"{kind}, {half} half", line["chosen"].partition(", ")[2],
                         *(f"{one['loss']:.3f} / {one['exact_match']:.3f}" for one in (there, default)),
                         f"{apart['loss']:+.3f} ± {apart['loss_error']:.3f}"])  # fmt: skip
    head = ["operator, tasks that chose", "chosen", "loss / exact match on the other half", "of the default there"]
    return table([*head, "difference in loss"], rows)


def by_block_table() -> list[str]:
    """Weights for each adapter, for thirds of its blocks, and a second round."""
    if not (RESULTS / "settings.json").is_file():
        return ["Not measured."]
    found, rows = load("settings")["by_block"], []
    for name, line in found.items():
        if "loss_error" not in line:
            apart = found.get(f"{name} against one round")
            said = f"{apart['loss']:+.3f} ± {apart['loss_error']:.3f}" if apart else ""
            rows.append([name, f"{line['loss']:.3f}", f"{line['exact_match']:.3f}", said])
    return table(["rows held out", "loss", "exact match", "difference in loss"], rows)


def recipe_table() -> list[str]:
    """Recipes for the adapters of a bank by what they pass on: the table of the bank's README."""
    if not (RESULTS / "recipe_smollm2.json").is_file():
        return ["Not measured."]
    found = load("recipe_smollm2")
    rows = []
    for name, line in found["candidates"].items():
        means, gap = line["means"], line["gap"]
        cells = [f"{means[way]['exact_match']:.2f} / {means[way]['loss']:.2f}" for way in ("own", "js", "trial")]
        cells += [f"{gap[way]['exact_match']:.0%} / {gap[way]['loss']:.0%}" for way in ("js", "trial")]
        rows.append([f"`{name}`: {line['why']}", f"{line['numbers'] / 1e6:.2f}", *cells, f"{line['linearity']:.2f}",
                     f"{line['cosine']['median']:.3f}"])  # fmt: skip
    head = [f"{len(found['tasks'])} tasks, {found['rows']['validation']} validation rows: exact match / loss",
            "million numbers", "own adapter", "normalized js", "trial", "gap closed, normalized js",
            "gap closed, trial", "linearity index", "median cosine"]  # fmt: skip
    return table(head, rows)


def rates_table() -> list[str]:
    """The default bank beside one that was trained less: whole banks, the same tasks left out."""
    banks = [load(name) for name in ("quality_smollm2", "quality_smollm2_5e-4")]
    lines = [bank["settings"]["loo"] for bank in banks]
    if banks[0]["tasks"] != banks[1]["tasks"]:
        raise ValueError("the two studies are of different tasks")
    rows = [[name, *(f"{one[name]['exact_match']:.3f} / {one[name]['loss']:.2f}" for one in lines)]
            for name in lines[1]]  # fmt: skip
    for said, key in (("median norm", "update_norm_median"), ("median cosine", "update_cosine_median")):
        rows.append([f"{said} of updates", *(f"{bank['updates'][key]:.2f}" for bank in banks)])
    return table([f"{banks[0]['tasks']} tasks, 121 adapters: exact match / loss", "2e-3", "5e-4"], rows)


def adapters_table() -> list[str]:
    """Every adapter of the default bank beside its base, with where its rows come from: from ``bank.json``."""
    rows = []
    for entry in sorted(json.loads(DEFAULT_BANK.read_text(encoding="utf-8"))["adapters"], key=lambda one: one["id"]):
        base, adapter = entry["scores"]["test"]["base"], entry["scores"]["test"]["adapter"]
        cells = [f"{one[key]:.2f}" if key in one else ""
                 for key in ("exact_match", "rouge_l", "loss") for one in (base, adapter)]  # fmt: skip
        rows.append([entry["id"], entry["family"], *cells, entry["source"]["repo"], entry["licence"]])
    head = ["adapter", "family", "exact match: base", "adapter", "ROUGE-L: base", "adapter", "loss: base", "adapter",
            "source", "licence of the rows"]  # fmt: skip
    return table(head, rows, left=(0, 1, 8, 9))


def shares_table() -> list[str]:
    found = load("shares")
    halves = list(found["means"])
    rows = []
    for share in found["means"]["all"]:
        cells = [found["means"][half][share] for half in halves]
        rows.append([f"{float(share):.0%}", *(f"{one['loss']:.2f} / {one['exact_match']:.3f}" for one in cells)])
        rows[-1].append(f"{cells[-1]['loss_difference']:+.2f} ± {cells[-1]['standard_error']:.2f}")
    names = {"first half": "first half of the tasks", "second half": "second half", "all": f"all {found['tasks']}"}
    head = ["share of the adapter of all tasks: loss / exact match", *(names[half] for half in halves)]
    return table([*head, "difference in loss"], rows)


def kinds_table() -> list[str]:
    found = load("kinds")
    names = {"labels": f"at most {found['labels_at_most']} answers", "open": "more"}
    rows = []
    for kind, line in found["kinds"].items():
        cells = [f"{line['exact_match'][way]:.3f} / {line['loss'][way]:.2f}" for way in ("auto", "lora")]
        for metric, form in (("exact_match", "+.3f"), ("loss", "+.2f")):
            one = line[metric]
            cells.append(f"{one['difference']:{form}} ({one['low']:{form}} to {one['high']:{form}})")
        rows.append([names[kind], str(len(line["tasks"])), *cells])
    head = [f"distinct answers of {found['rows']} rows", "tasks", "`auto`: exact match / loss", "LoRA, same seconds"]
    return table([*head, "difference, exact match (95 %)", "loss (95 %)"], rows)


def first_stage_table() -> list[str]:
    found = load("first_stage")["rows"]
    rows = []
    for count, line in found.items():
        ways = [f"{line[way]['exact_match']:.2f} / {line[way]['loss']:.2f}" for way in ("normalized", "multi_task")]
        rows.append([count, str(line["tasks"]), *ways, str(line["taken"])])
    head = [
        "labelled rows",
        "tasks",
        "first stage `normalized`: exact match / loss",
        "`multi_task`",
        "tasks where it was kept",
    ]
    return table(head, rows)
