"""Compare recipes for a bank by what is left out: each of some tasks is rebuilt from the adapters of the others.

A recipe is judged by transfer, not by each adapter alone: exact match and loss, on validation rows, of the paper's mix
(normalized js), of ``trial`` and of the task's own adapter, with the linearity index and the cosines of the updates.
Adapters are kept in ``.work/recipe``, so that a stopped run goes on where it was.

    python -m benchmarks.recipe --data DATA --calibration TEXT [--candidates NAME ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.common import ROOT, stamp, write
from benchmarks.recipe.candidates import CANDIDATES, ROWS, Candidate
from benchmarks.recipe.measure import Task, linearity, measure, transfer
from benchmarks.rows import read_parts
from lorameta.adapter import Adapter
from lorameta.base_model.load import Base, load_base
from lorameta.combiner.gram import gram
from lorameta.data.split import Parts
from lorameta.encoder import TokenEncoder
from lorameta.evaluate import Scorer
from lorameta.training import LoraTraining, train_adapter
from lorameta.training.principal import principal_a, read_texts

#: One task of each of twelve families.
TASKS = (
    "booking_date", "clinc_domain", "emotion_six", "hwu_scenario", "movie_polarity", "negate_sentence", "noun_plural",
    "snips_artist", "verb_past_tense", "word_class_in_sentence", "blimp_grammatical", "translate_en_es",
)  # fmt: skip
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with tasks/")
    parser.add_argument("--calibration", type=Path, required=True, help="text whose hidden states give principal A's")
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="of the base")
    parser.add_argument("--rows", type=int, default=24, help="validation rows that are scored")
    parser.add_argument("--trial-rows", type=int, default=16)
    parser.add_argument("--work", type=Path, default=ROOT / ".work" / "recipe")
    options = parser.parse_args()

    base = load_base(options.base, None, options.dtype)
    tasks = [read_task(options, base, id) for id in options.tasks]
    scorer = Scorer.of(options.base, base.model, base.tokenizer)
    bare = keep(options.work / "base.json", lambda: {task.id: measure(scorer, task, None) for task in tasks})
    results: dict[str, Any] = {}
    for name in options.candidates:
        results[name] = compare(CANDIDATES[name], name, base, scorer, tasks, bare, options)
        print(json.dumps({name: results[name]["gap"]}), flush=True)
        write("recipe_smollm2", report(options, bare, results))


def read_task(options: argparse.Namespace, base: Any, id: str) -> Task:
    """Read a task; its validation rows decide, its test rows are not looked at."""
    parts = read_parts(options.data, id)
    most = max(candidate.rows for candidate in CANDIDATES.values())
    parts = Parts(parts.train[:most], parts.validation[: options.rows])
    tokenizer = options.work / "tokenizer.json"
    if not tokenizer.is_file():
        tokenizer.parent.mkdir(parents=True, exist_ok=True)
        base.tokenizer.backend_tokenizer.save(str(tokenizer))
    return Task(id, parts, TokenEncoder(tokenizer).encode(parts.train[:ROWS]))


def compare(
    candidate: Candidate, name: str, base: Any, scorer: Scorer, tasks: list[Task], bare: dict[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Train a recipe's adapter on every task, then rebuild each from the others."""
    folder = options.work / name
    adapters, initial = {}, None
    for task in tasks:
        where = folder / task.id
        if not (where / "adapter_config.json").is_file():
            if initial is None:
                initial = candidate.initial(base, lambda: principal(base, options))
            parts = Parts(task.parts.train[: candidate.rows], task.parts.validation)
            trained = train_adapter(parts, base, candidate.settings, initial=initial)
            if trained.diverged:
                raise SystemExit(f"{name}, {task.id}: {trained.diverged}")
            trained.adapter.save_pretrained(where)
        adapters[task.id] = Adapter.from_pretrained(where)
    scorer.model = base.model
    found = {}
    for task in tasks:
        others = [other for other in tasks if other.id != task.id]
        found[task.id] = keep(
            folder / f"{task.id}.json",
            lambda task=task, others=others: {
                "own": measure(scorer, task, adapters[task.id]),
                **transfer(scorer, task, others, adapters, options.trial_rows),
                "linearity": linearity(scorer, task, adapters[task.id]),
            },
        )
    products = gram(list(adapters.values()))
    lengths = np.sqrt(np.diag(products))
    cosines = (products / np.outer(lengths, lengths))[np.triu_indices(len(tasks), 1)]
    return {
        "why": candidate.why,
        "rows": candidate.rows,
        "settings": candidate.settings.as_dict(),
        "numbers": candidate.numbers(adapters[tasks[0].id]),
        "gap": {method: gaps(found, bare, method) for method in ("js", "trial", "uniform")},
        "means": {method: means(found, method) for method in ("own", "js", "trial", "uniform")},
        "linearity": round(float(np.median([entry["linearity"] for entry in found.values()])), 4),
        "cosine": {"median": round(float(np.median(cosines)), 4), "most": round(float(cosines.max()), 4)},
        "norm": round(float(np.median(lengths)), 3),
        "tasks": found,
    }


def principal(base: Base, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The principal directions of every layer's input, as many as the largest rank that a candidate needs."""
    kept = options.work / "principal.safetensors"
    if not kept.is_file():
        rank = max(candidate.settings.rank for candidate in CANDIDATES.values())
        save_file(principal_a(base, LoraTraining().targets, rank, read_texts(options.calibration)), kept)
    return load_file(kept)


def means(found: dict[str, Any], method: str) -> dict[str, float]:
    return {key: round(float(np.mean([t[method][key] for t in found.values()])), 4) for key in ("exact_match", "loss")}


def gaps(found: dict[str, Any], bare: dict[str, Any], method: str) -> dict[str, float]:
    """Share of the way from the base to the task's own adapter, of the means over tasks."""
    shares = {}
    for key in ("exact_match", "loss"):
        start = np.mean([bare[id][key] for id in found])
        end = np.mean([found[id]["own"][key] for id in found])
        here = np.mean([found[id][method][key] for id in found])
        shares[key] = round(float((here - start) / (end - start)), 4)
    return shares


def report(options: argparse.Namespace, bare: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    return stamp(vars(options)) | {
        "base": options.base,
        "tasks": options.tasks,
        "rows": {"train": ROWS, "validation": options.rows, "trial": options.trial_rows},
        "bare": bare,
        "candidates": results,
    }


def keep(file: Path, make: Any) -> Any:
    """What `make` gives, from `file` if an earlier run had it."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        content = make()
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
