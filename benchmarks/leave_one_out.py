"""Leave-one-out over a bank: how much of the way from base to own adapter does mixing the others close?

Each task in turn is the new dataset: its adapter is taken out of the bank, an adapter is generated from the rest by
every method, and the answers on the task's test rows are scored. Settings (temperature, top-k) are compared on
validation rows only (`--part validation`); the table in the README is made on test rows (`--part test`).

Resumable: every score is appended to a cache under `.work/`, keyed by the bank's content.

    python benchmarks/leave_one_out.py --data DATA --part test
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from common import ROOT, stamp, write

from lorameta.bank import AdapterBank
from lorameta.data import load_examples
from lorameta.distance import distances
from lorameta.generate import DISTANCE, OPERATOR, TEMPERATURE, TOP_K
from lorameta.operator import effective_number, mixing_weights

METRICS = ("exact_match", "rouge_l", "loss")


@dataclass(frozen=True)
class Method:
    """One way to get an adapter for a task; `base` and `own` are the two ends of the gap."""

    name: str
    distance: str = "js"
    operator: str = "uniform"
    temperature: float = 1.0
    top_k: int | None = None
    combiner: str = "delta"


ENDS = [Method("base"), Method("own adapter")]
TOKEN, SENTENCE = ("js", "kl"), ("gaussian", "cosine")
SWEEP = [
    *ENDS,
    Method("uniform"),
    *(Method(f"nearest {d}", d, "nearest") for d in (*TOKEN, *SENTENCE)),
    *(
        Method(f"{o} {d} T={t:g}", d, o, t)
        for d in (*TOKEN, *SENTENCE)
        for o, temperatures in (("attentional", (1.0,)), ("normalized", (1.0, 0.5, 0.25, 0.12)))
        for t in temperatures
    ),
    *(
        Method(f"normalized {d} T={t:g} k={k}", d, "normalized", t, k)
        for d in ("js", "cosine")
        for t in (1.0, 0.5)
        for k in (3, 8)
    ),
]


#: Columns of the tables by family, beside the default of generate_adapter; fixed, so that no test row picks one.
FAMILY_COLUMNS = ("base", "uniform", "nearest js", "attentional js T=1", "normalized js T=1", "own adapter")


def default_method() -> str:
    """The name here of what `generate_adapter` does by default."""
    top = "" if TOP_K is None else f" k={TOP_K}"
    return f"{OPERATOR} {DISTANCE}{top}" if OPERATOR == "nearest" else f"{OPERATOR} {DISTANCE} T={TEMPERATURE:g}{top}"


@functools.cache
def opened(path: str):
    """Once a worker: the bank, a reader that keeps every adapter in memory, and the base model."""
    from lorameta.evaluate import Scorer

    bank = AdapterBank.open(path)
    return bank, functools.cache(bank.__getitem__), Scorer(bank.base_model, batch_size=64)


def score_task(
    data: Path, bank_path: str, task_id: str, methods: list[Method], part: str, limit: int | None
) -> list[dict]:
    import torch

    sys.path.insert(0, str(ROOT / "adapter_bank" / "recipe"))
    from tasks import load_rows, split_rows

    from lorameta.adapter import Adapter
    from lorameta.combiner import combine

    torch.set_num_threads(1)
    whole, read, scorer = opened(bank_path)
    bank = whole.without([task_id])
    examples = load_examples(split_rows(load_rows(data, task_id))[part][:limit])
    target = whole.summaries[task_id]
    found = []
    for method in methods:
        begun, facts = time.perf_counter(), {}
        if method.name == "base":
            adapter = None
        elif method.name == "own adapter":
            adapter = read(task_id)
        else:
            d = distances(target, bank.summaries, method.distance)
            weights = mixing_weights(d, method.operator, temperature=method.temperature, top_k=method.top_k)
            used = np.flatnonzero(weights > 1e-6)
            modules, errors = combine([read(bank.ids[i]) for i in used], weights[used], method=method.combiner)
            adapter = Adapter(modules, bank.base_model, bank.base_revision, {}, {})
            facts = {
                "effective_number": round(effective_number(weights), 3),
                "nearest": bank.ids[int(np.argmin(d))],
                "truncation_error": round(float(np.mean(list(errors.values()))), 4),
            }
        made = time.perf_counter() - begun
        scores = scorer.score(examples, adapter).as_dict()
        found.append({"task": task_id, "method": method.name, **scores, **facts, "seconds": round(made, 3)})
    return found


def interval(values: np.ndarray, seed: int = 0) -> list[float]:
    """95 % percentile bootstrap of the mean over tasks."""
    draws = np.random.default_rng(seed).integers(0, len(values), (10_000, len(values)))
    return [round(float(q), 4) for q in np.quantile(values[draws].mean(axis=1), (0.025, 0.975))]


def table(rows: list[dict], methods: list[Method], families: dict[str, str]) -> dict:
    by = {(row["task"], row["method"]): row for row in rows}
    tasks = sorted({row["task"] for row in rows})
    overall = {}
    for method in methods:
        line: dict = {"tasks": len(tasks)}
        for metric in METRICS:
            values = np.array([by[task, method.name][metric] for task in tasks])
            line[metric] = round(float(values.mean()), 4)
            line[f"{metric}_interval"] = interval(values)
        base, own, here = (
            np.mean([by[t, name]["exact_match"] for t in tasks]) for name in ("base", "own adapter", method.name)
        )
        line["gap_closed_exact_match"] = round(float((here - base) / (own - base)), 4)
        numbers = [by[t, method.name]["effective_number"] for t in tasks if "effective_number" in by[t, method.name]]
        if numbers:
            line["effective_number_median"] = round(float(np.median(numbers)), 2)
            errors = [by[t, method.name]["truncation_error"] for t in tasks]
            line["truncation_error_mean"] = round(float(np.mean(errors)), 4)
        overall[method.name] = line
    by_family: dict = {}
    for family in sorted({families[t] for t in tasks}):
        members = [t for t in tasks if families[t] == family]
        by_family[family] = {"tasks": len(members)} | {
            m.name: {k: round(float(np.mean([by[t, m.name][k] for t in members])), 4) for k in METRICS} for m in methods
        }
    return {"overall": overall, "families": by_family}


def markdown(result: dict, shown: list[str]) -> str:
    lines = [
        f"# Leave-one-out, {result['part']} rows",
        "",
        f"{result['tasks']} tasks of the bank, each generated from the other {result['tasks'] - 1} adapters.",
        "Mean over tasks, with the 95 % bootstrap interval over tasks.",
        f"Made by `{result['command']}` at commit {result['commit'][:10]} on {result['machine']}.",
        "",
        "| method | exact match | | ROUGE-L | | loss | gap closed (EM) | effective number |",
        "|---|---:|---|---:|---|---:|---:|---:|",
    ]
    for name, line in result["overall"].items():
        cells = [name]
        for metric in ("exact_match", "rouge_l"):
            low, high = line[f"{metric}_interval"]
            cells += [f"{line[metric]:.3f}", f"{low:.3f} to {high:.3f}"]
        cells += [
            f"{line['loss']:.2f}",
            f"{line['gap_closed_exact_match']:.0%}",
            str(line.get("effective_number_median", "")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for metric, title in (("exact_match", "Exact match"), ("rouge_l", "ROUGE-L")):
        lines += [
            "",
            f"## {title} by family",
            "",
            "| family | tasks | " + " | ".join(shown) + " |",
            "|---|---:|" + "---:|" * len(shown),
        ]
        for family, line in result["families"].items():
            lines.append(
                f"| {family} | {line['tasks']} | " + " | ".join(f"{line[m][metric]:.3f}" for m in shown) + " |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bank", default="embedded")
    parser.add_argument("--part", choices=("validation", "test"), default="test")
    parser.add_argument("--limit", type=int, help="rows a task at most")
    parser.add_argument(
        "--methods", nargs="*", help="only these, or whose names begin so; both ends and the default always"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    bank = AdapterBank.open(arguments.bank)
    names = {m.name for m in SWEEP}
    methods = [
        m
        for m in SWEEP
        if m in ENDS
        or m.name == default_method()
        or not arguments.methods
        or any(m.name == p if p in names else m.name.startswith(p) for p in arguments.methods)
    ]
    content = hashlib.sha256(
        "".join([*(bank.records[i].sha256 for i in bank.ids), arguments.part, str(arguments.limit)]).encode()
    ).hexdigest()[:12]
    cache = ROOT / ".work" / f"leave_one_out-{content}.jsonl"
    cache.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in cache.open()] if cache.exists() else []
    have = {(row["task"], row["method"]) for row in rows}
    wanted = {t: [m for m in methods if (t, m.name) not in have] for t in bank.ids}
    begun = time.time()
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(score_task, arguments.data, arguments.bank, t, todo, arguments.part, arguments.limit)
            for t, todo in wanted.items()
            if todo
        ]
        for done, job in enumerate(as_completed(jobs), start=1):
            new = job.result()
            rows += new
            with cache.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in new)
            left = (time.time() - begun) / done * (len(jobs) - done)
            print(f"{done}/{len(jobs)} {new[0]['task']}, about {math.ceil(left / 60)} min left", file=sys.stderr)
    chosen = {m.name for m in methods}
    rows = [row for row in rows if row["method"] in chosen]
    result = stamp(vars(arguments)) | {
        "bank": {"name": bank.name, "content": content},
        "part": arguments.part,
        "rows_a_task_at_most": arguments.limit,
        "tasks": len(bank.ids),
    }
    result |= table(rows, methods, {i: bank.records[i].family for i in bank.ids})
    result["by_task"] = sorted(rows, key=lambda row: (row["task"], row["method"]))
    shown = [m.name for m in methods if m.name in {*FAMILY_COLUMNS, default_method()}]
    text = markdown(result, shown)
    write("leave_one_out" if arguments.part == "test" else "leave_one_out_validation", result, text)
    print(text)


if __name__ == "__main__":
    main()
