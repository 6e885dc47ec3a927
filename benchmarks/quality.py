"""The study: how much of the way from base to gradient fine-tuning does each way of mixing close?

Each task of the bank in turn is the new dataset: its adapter is taken out (`loo`), or every adapter of its source is
(`source`), an adapter is made of the others by every method, and its answers on held-out rows of the task are scored.
`fine-tuned` is the task's own adapter, trained on its train rows with the recipe of the bank.

Resumable: every score goes to a cache under `.work/quality`, keyed by the rows, the base, the adapters and the weights,
so a second run, or one with more methods, computes only what is new.

    python benchmarks/quality.py --data DATA
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT
from methods import MAIN, NEURAL_WIDTH, Method, Mixer, Tables, catalogue, facts, source_folds

from lorameta.bank import AdapterBank
from lorameta.data import load_examples

sys.path.insert(0, str(ROOT / "adapter_bank" / "recipe"))
from tasks import load_rows, split_rows

WORK = ROOT / ".work" / "quality"
SHOTS, LABELLED, RANDOM, SEARCHED = 5, 16, 5, 20
SETTINGS = ("loo", "source")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bank", default="embedded")
    parser.add_argument("--limit", type=int, default=32, help="test rows a task at most")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", metavar="GROUP", help="groups of methods to run; the report wants all")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--stop-before-report", action="store_true")
    arguments = parser.parse_args()
    bank = AdapterBank.open(arguments.bank)
    WORK.mkdir(parents=True, exist_ok=True)
    job = {"data": arguments.data, "bank": arguments.bank, "limit": arguments.limit}
    run(bank, "matrix", matrix_of, [(task, job) for task in bank.ids], arguments.workers)
    chosen = [m for m in catalogue() if not arguments.only or m.group in arguments.only]
    save_tables(bank, arguments.data, arguments.limit, chosen)
    asked = {"loo": chosen, "source": [m for m in chosen if m.group in MAIN]}
    work = [(task, setting, asked[setting], job) for setting in arguments.settings for task in bank.ids]
    run(bank, "methods", methods_of, work, arguments.workers)
    if not arguments.stop_before_report and not arguments.only:
        from quality_report import report

        report(bank, arguments, catalogue(), collect(bank, arguments.data, arguments.limit))


def run(bank: AdapterBank, stage: str, function: Any, work: list[tuple], workers: int) -> None:
    """Call `function` on every item in worker processes, with the time left on stderr."""
    begun = time.time()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(function, *item) for item in work]
        new = 0
        for done, job in enumerate(as_completed(jobs), start=1):
            made = job.result()
            new += made
            if made:
                left = (time.time() - begun) / done * (len(jobs) - done) / 60
                print(f"{stage} {done}/{len(jobs)}, {new} new scores, about {left:.0f} min left", file=sys.stderr)


@functools.cache
def opened(path: str) -> tuple[AdapterBank, Mixer, Any]:
    """Once a worker: the bank, its stacked adapters, the base."""
    import torch
    from scoring import UpdateScorer

    torch.set_num_threads(1)
    bank = AdapterBank.open(path)
    return bank, Mixer(bank), UpdateScorer(bank.base_model)


class Cache:
    """Scores of one task by what decided them, one JSON line each."""

    def __init__(self, bank: AdapterBank, task: str, rows: Any, kind: str) -> None:
        base = bank.manifest.base.sha256.get("model.safetensors", bank.base_model)
        content = hashlib.sha256(json.dumps([base, rows, kind], default=str).encode()).hexdigest()[:12]
        self.path = WORK / f"{task}-{kind}-{content}.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.found = {}
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            self.found[entry.pop("key")] = entry
        self.new = 0

    def get(self, key: str, make: Any) -> dict[str, Any]:
        if key not in self.found:
            self.found[key] = {k: round(v, 6) if isinstance(v, float) else v for k, v in make().items()}
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, **self.found[key]}) + "\n")
            self.new += 1
        return self.found[key]


def rows_of(data: Path, task: str, limit: int) -> dict[str, list[dict]]:
    parts = split_rows(load_rows(data, task))
    return {"test": parts["test"][:limit], "labelled": parts["train"][:LABELLED], "shots": parts["train"][:SHOTS]}


def one_hot(count: int, index: int) -> np.ndarray:
    weights = np.zeros(count)
    weights[index] = 1.0
    return weights


def matrix_of(task: str, job: dict) -> int:
    """Loss and exact match of every single adapter of the bank on the task's test rows and on a few labelled ones."""
    bank, mixer, scorer = opened(job["bank"])
    new = 0
    for part in ("test", "labelled"):
        rows = rows_of(job["data"], task, job["limit"])[part]
        cache = Cache(bank, task, rows, f"matrix-{part}")
        batches = None
        for index in [None, *range(len(bank))]:
            key = "base" if index is None else mixer.hashes[index][:24]
            if key in cache.found:
                continue
            batches = batches or scorer.prepare(load_examples(rows))
            update = None if index is None else mixer.update(one_hot(len(bank), index), "sum")
            cache.get(key, functools.partial(scorer.score, batches, update, answers=False))
        new += cache.new
    return new


def matrices(bank: AdapterBank, data: Path, limit: int) -> dict[str, np.ndarray]:
    """`test_loss`, `test_exact_match`, `labelled_loss` (N, N) of single adapters; `base_loss` (N,)."""
    made = {name: np.zeros((len(bank), len(bank))) for name in ("test_loss", "test_exact_match", "labelled_loss")}
    made["base_loss"] = np.zeros(len(bank))
    for i, task in enumerate(bank.ids):
        rows = rows_of(data, task, limit)
        test, labelled = (Cache(bank, task, rows[part], f"matrix-{part}").found for part in ("test", "labelled"))
        keys = [bank.records[j].sha256[:24] for j in bank.ids]
        made["test_loss"][i] = [test[key]["loss"] for key in keys]
        made["test_exact_match"][i] = [test[key]["forced_exact_match"] for key in keys]
        made["labelled_loss"][i] = [labelled[key]["loss"] for key in keys]
        made["base_loss"][i] = test["base"]["loss"]
    return made


def save_tables(bank: AdapterBank, data: Path, limit: int, methods: list[Method]) -> None:
    """Distances, Gram matrix and fitted operators, computed once and read by every worker."""
    import pickle

    from lorameta.combiner.gram import gram
    from lorameta.distance import DISTANCES, distance_matrix
    from lorameta.operator.neural import fit_neural

    folder = WORK / f"tables-{bank.content_hash[:12]}"
    folder.mkdir(exist_ok=True)

    def cached(name: str, make: Any) -> np.ndarray:
        path = folder / f"{name}.npy"
        if not path.exists():
            begun = time.perf_counter()
            np.save(path, make())
            print(f"{name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
        return np.load(path)

    sources = tuple(bank.records[i].source["name"] for i in bank.ids)
    distances = {name: cached(name, functools.partial(distance_matrix, bank.summaries, name)) for name in DISTANCES}
    for side in ("answers", "prompts"):
        distances[f"js_{side}"] = cached(f"js_{side}", functools.partial(one_sided, bank, data, side))
    distances["loss"] = matrices(bank, data, limit)["labelled_loss"]
    tables = Tables(
        bank.ids,
        sources,
        distances,
        cached("gram", lambda: gram([bank[i] for i in bank.ids])),
        source_folds(sources),
        np.asarray(bank.summaries.means, dtype=np.float64),
    )
    path = folder / "neural.pickle"  # our own cache, written and read by this script alone
    tables.neural = pickle.loads(path.read_bytes()) if path.exists() else {}
    for distance in sorted({m.distance for m in methods if m.operator == "neural"}):
        for fold in sorted(set(tables.folds.tolist())):
            if (distance, fold) not in tables.neural:
                seen = np.flatnonzero(tables.folds != fold)
                D, G = distances[distance][np.ix_(seen, seen)], tables.gram[np.ix_(seen, seen)]
                begun = time.perf_counter()
                tables.neural[distance, fold] = fit_neural(D, G, width=NEURAL_WIDTH, seed=fold)
                print(f"neural {distance} {fold}: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    path.write_bytes(pickle.dumps(tables.neural))
    (folder / "tables.pickle").write_bytes(pickle.dumps(tables))


def one_sided(bank: AdapterBank, data: Path, side: str) -> np.ndarray:
    """JS between the token histograms of the answers, or of the prompts, of the train rows."""
    from tokenizers import Tokenizer

    from lorameta.distance.js import js

    tokenizer = Tokenizer.from_file(str(bank.tokenizer_path / "tokenizer.json"))
    counts = np.zeros((len(bank), tokenizer.get_vocab_size()), dtype=np.int64)
    for i, task in enumerate(bank.ids):
        for example in load_examples(split_rows(load_rows(data, task))["train"]):
            text = example.input if side == "prompts" else " " + example.output
            np.add.at(counts[i], tokenizer.encode(text, add_special_tokens=False).ids, 1)
    return np.stack([js(row, counts) for row in counts])


@functools.cache
def tables_of(content: str) -> Tables:
    import pickle

    return pickle.loads((WORK / f"tables-{content[:12]}" / "tables.pickle").read_bytes())


def methods_of(task: str, setting: str, methods: list[Method], job: dict) -> int:
    """Score every method on one task, and note which score belongs to which method."""
    bank, mixer, scorer = opened(job["bank"])
    tables = tables_of(bank.content_hash)
    i = bank.ids.index(task)
    rows = rows_of(job["data"], task, job["limit"])
    cache = Cache(bank, task, rows["test"], "scores")
    batches = scorer.prepare(load_examples(rows["test"]))
    allowed = tables.allowed(i, setting)
    alone = setting == "source" and len(allowed) == len(bank) - 1  # its source has no other task: as left alone

    def mixed(weights: np.ndarray, combiner: str = "delta", scale: float = 1.0) -> dict[str, Any]:
        key = mixer.key(weights, combiner, scale)
        return cache.get(key, lambda: scorer.score(batches, mixer.update(weights, combiner, scale))) | facts(weights)

    found: dict[str, dict] = {}
    for method in methods:
        if alone or (setting == "source" and method.kind in ("base", "few-shot", "fine-tuned")):
            continue
        if method.kind == "base":
            found[method.name] = cache.get("base", lambda: scorer.score(batches))
        elif method.kind == "few-shot":
            shots = load_examples(rows["shots"])
            prepare = functools.partial(scorer.prepare, load_examples(rows["test"]), shots)
            found[method.name] = cache.get(f"few-shot {SHOTS}", lambda: scorer.score(prepare()))  # noqa: B023
        elif method.kind == "fine-tuned":
            found[method.name] = mixed(one_hot(len(bank), i))
        elif method.kind == "random":
            seed = int.from_bytes(hashlib.sha256(f"random {task}".encode()).digest()[:8], "big")
            drawn = np.random.default_rng(seed).choice(allowed, RANDOM, replace=False)
            several = [mixed(one_hot(len(bank), j)) for j in drawn]
            found[method.name] = {k: float(np.mean([s[k] for s in several])) for k in several[0]}
        elif method.kind == "hindsight":
            made = Cache(bank, task, rows["test"], "matrix-test").found
            order = [(-made[mixer.hashes[j][:24]]["forced_exact_match"], made[mixer.hashes[j][:24]]["loss"], j)
                     for j in allowed]  # fmt: skip
            found[method.name] = mixed(one_hot(len(bank), min(order)[2])) | {"adapter": bank.ids[min(order)[2]]}
        elif method.kind == "search":
            found[method.name] = mixed(searched(task, i, allowed, tables, rows, job))
        else:
            weights = tables.weights(method, i, setting)
            found[method.name] = mixed(weights, method.combiner, tables.scale(method, weights))
    path = WORK / f"found-{bank.content_hash[:12]}-{job['limit']}-{setting}-{task}.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | found))
    return cache.new


def searched(task: str, i: int, allowed: np.ndarray, tables: Tables, rows: dict, job: dict) -> np.ndarray:
    """Weights from `lorameta.operator.search` over the nearest adapters, with the loss on the labelled rows."""
    from lorameta.operator import mixing_weights
    from lorameta.operator.search import search

    bank, mixer, scorer = opened(job["bank"])
    near = allowed[np.argsort(tables.distances["js"][i, allowed], kind="stable")[:SEARCHED]]
    start = mixing_weights(tables.distances["js"][i, near], "normalized")
    spread = np.zeros(len(bank))

    def loss(weights: np.ndarray) -> float:
        spread[near] = weights
        return scorer.score(batches, mixer.update(spread, "sum"), answers=False)["loss"]

    names = [mixer.hashes[j] for j in near]
    cache = Cache(bank, task, [rows["labelled"], names, SEARCHED], "search")
    batches = scorer.prepare(load_examples(rows["labelled"])) if "weights" not in cache.found else []
    made = cache.get("weights", lambda: {"weights": [float(w) for w in search(loss, start)[0]]})
    spread[near] = made["weights"]
    return spread


def collect(bank: AdapterBank, data: Path, limit: int) -> dict[str, Any]:
    """Everything that the report is made of: scores by setting, task and method, and the matrices."""
    scores: dict[str, dict[str, dict]] = {setting: {} for setting in SETTINGS}
    for setting in SETTINGS:
        for task in bank.ids:
            path = WORK / f"found-{bank.content_hash[:12]}-{limit}-{setting}-{task}.json"
            scores[setting][task] = json.loads(path.read_text())
            if setting == "source":
                scores[setting][task] = scores["loo"][task] | scores[setting][task]
    return {"scores": scores, "tables": tables_of(bank.content_hash)} | matrices(bank, data, limit)


if __name__ == "__main__":
    main()
