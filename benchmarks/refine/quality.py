"""On tasks left out of the bank: test scores against CPU seconds, from scratch and from what the bank gives.

The full fine-tune is that of `lorameta finetune`, from scratch, on the layers that the bank's adapters change. Every
start, scratch included, gets a fifth of its steps, with a schedule of its own for them; some get all of its steps as
well. Curves are scores of the best state so far, which is what somebody would have who stopped there. CPU seconds are
those of the training, with what generating the start took; loading, preparing and our scoring of test rows do not
count, since they are alike for all.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, stamp
from benchmarks.quality.case import without_source
from benchmarks.rows import read_parts
from lorameta.bank import AdapterBank
from lorameta.base_model.locate import local_base
from lorameta.data.split import Parts

WORK = ROOT / ".work"
TINY = "tiny"
SHARE = 0.2
#: Layers that one run adapts, of the six of the base of `tiny`, and its share of the full run's steps, which take about
#: as long: in the first epoch the states of the frozen layers are still to be computed.
TOP, TOP_SHARE = 3, 0.24


@dataclass(frozen=True)
class Start:
    """A start, as options of generate_adapter (None: from scratch), its share of the full run's steps, and layers."""

    start: dict[str, Any] | None
    share: float = SHARE
    top_layers: int | None = None


RUNS = {
    "from scratch": Start(None),
    "uniform average": Start({"operator": "uniform"}),
    "nearest adapter": Start({"operator": "nearest"}),
    "by distances": Start({"operator": "normalized"}),
    "generated": Start({}),
    "generated, trial": Start({"operator": "trial"}),
    "generated without labels": Start({"operator": "multi_task"}),
    "generated, upper half": Start({}, TOP_SHARE, TOP),
    "uniform average, all steps": Start({"operator": "uniform"}, 1.0),
    "nearest adapter, all steps": Start({"operator": "nearest"}, 1.0),
    "generated, all steps": Start({}, 1.0),
    "generated without labels, all steps": Start({"operator": "multi_task"}, 1.0),
}
FULL = "full fine-tune"
#: Rows that the best state is chosen by, and how often they are measured at least: the points of a curve.
HELD_OUT, POINTS = 32, 6


def choose(bank: AdapterBank, count: int) -> list[str]:
    """Tasks of as many families as possible: one of each in turn, in an order that a hash decides."""

    def key(name: str) -> str:
        return hashlib.sha256(f"refine {name}".encode()).hexdigest()

    families = defaultdict(list)
    for name in sorted(bank.ids, key=key):
        families[bank.records[name].family].append(name)
    order = sorted(families, key=key)
    depth = max(map(len, families.values()))
    return [families[f][i] for i in range(depth) for f in order if i < len(families[f])][:count]


def quality(arguments: Any, part: str = "quality", **changed: Any) -> None:
    bank = AdapterBank.open(arguments.bank)
    options = {
        "data": str(arguments.data), "epochs": arguments.epochs, "rate": arguments.learning_rate,
        "batch": arguments.batch_size, "rows": arguments.rows, "bank": arguments.bank,
        "precision": arguments.precision, "runs": arguments.runs,
    } | changed  # fmt: skip
    names = choose(bank, arguments.tasks)
    side_by_side(task, names, options, arguments.workers)
    (place(arguments.bank) / f"{part}.json").write_text(
        json.dumps({"tasks": names, "options": options} | stamp(vars(arguments)))
    )


def few(arguments: Any) -> None:
    """The same with few rows to learn from, and as many epochs as those can take."""
    batch = arguments.batch_size if arguments.few >= 128 else 4
    quality(arguments, "few", train_rows=arguments.few, epochs=arguments.few_epochs, batch=batch)


def side_by_side(work: Callable[[str, dict[str, Any]], None], names: list[str], options: Any, workers: int) -> None:
    """Tasks in processes of one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.time()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(work, name, options): name for name in names}
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            left = (time.time() - begun) / done * (len(jobs) - done) / 60
            said = f"{work.__name__} {done}/{len(jobs)} {jobs[job]}, about {left:.0f} min left"
            print(said, file=sys.stderr, flush=True)


def name_of(bank: str) -> str:
    """Of the results on a bank."""
    return "refine" if bank == TINY else f"refine_{bank}"


def place(bank: str = TINY) -> Path:
    folder = WORK / name_of(bank)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def file_of(name: str, options: dict[str, Any], part: str = "quality") -> Path:
    decisive = {k: v for k, v in options.items() if k not in ("data", "runs")}
    bank = options.get("bank", TINY)
    key = hashlib.sha256(json.dumps([AdapterBank.open(bank).content_hash, decisive]).encode()).hexdigest()[:8]
    return place(bank) / f"{part}-{name}-{key}.json"


def task(name: str, options: dict[str, Any]) -> None:
    """All runs of one task that are not there yet."""
    path = file_of(name, options)
    found = json.loads(path.read_text()) if path.exists() else {"task": name, "runs": {}}
    runs = found["runs"]
    rows = options.get("train_rows")
    wanted = [FULL, *(name for name, run in RUNS.items() if name in options["runs"] and not (rows and run.top_layers))]
    if not (missing := [called for called in wanted if called not in runs]):
        return
    import torch

    from benchmarks.refine.scoring import UpdateScorer

    torch.set_num_threads(1)
    bank = AdapterBank.open(options["bank"])
    parts = read_parts(Path(options["data"]), name)
    parts = replace(parts, train=parts.train[:rows])
    scorer = UpdateScorer(local_base(bank.base_model))
    batches = scorer.prepare(parts.test[: options["rows"]])
    from lorameta.generate import generate_adapter

    generate_adapter(parts.train[:8], bank=bank.without(name), operator="trial")  # imports are nobody's cost
    found |= {"family": bank.records[name].family, "base": scorer.score(batches)}
    if FULL in missing:
        runs[FULL] = one(bank, None, parts, options, scorer, batches)
    for called, run in RUNS.items():
        if called not in missing:
            continue
        begun, adapter = time.process_time(), None
        if run.start is not None:
            with without_source(bank, name, Path(options["data"])):
                adapter = generate_adapter(parts.train, bank=bank.without(name), **run.start)
        before = time.process_time() - begun
        steps = max(1, round(run.share * runs[FULL]["steps"]))
        chosen = options | {"steps": steps, "top_layers": run.top_layers}
        runs[called] = one(bank, adapter, parts, chosen, scorer, batches, before)
        keep(path, found)


def keep(path: Path, found: dict[str, Any]) -> None:
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(found, indent=1))
    fresh.replace(path)


def one(
    bank: AdapterBank, start: Any, parts: Parts, options: dict[str, Any], scorer: Any, batches: Any,
    before: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """One run: the curve of the best state so far, and the scores of the last, with answers written out."""
    import torch

    from lorameta.training import prepared

    steps = options.get("steps")
    like = bank.records[bank.ids[0]]
    settings = {
        "epochs": None if steps else options["epochs"], "steps": steps, "learning_rate": options["rate"],
        "rank": like.rank, "alpha": like.alpha, "targets": list(like.targets),
        "precision": options.get("precision", "float32"), "threads": 1, "evaluations": 12,
        "batch_size": options["batch"], "top_layers": options.get("top_layers"),
        "seed": options.get("seed", 0),
    }  # fmt: skip
    curve: list[dict[str, float]] = []
    update: dict[str, Any] = {}
    frozen: dict[str, Any] = {}
    clock = {"begun": 0.0, "beside": 0.0}

    def observe(step: int, seconds: float, best: dict[str, Any]) -> None:
        came = time.process_time()
        update.clear()
        update.update(frozen)
        for key, value in best.items():
            if ".lora_A." in key:
                module = key.removeprefix("base_model.model.").partition(".lora_")[0]
                update[module] = like.alpha / like.rank * best[key.replace(".lora_A.", ".lora_B.")] @ value
        scores = scorer.score(batches, update, answers=False)
        cpu = before + came - clock["begun"] - clock["beside"]
        curve.append({"step": step, "cpu": round(cpu, 3), **{k: round(v, 5) for k, v in scores.items()}})
        clock["beside"] += time.process_time() - came

    held_out = parts.validation[: HELD_OUT if "train_rows" not in options else HELD_OUT // 2]
    with prepared(parts.train, bank.base_model, settings, start=start, validation=held_out) as job:
        job.plan = replace(job.plan, evaluations=max(POINTS, job.plan.evaluations))
        frozen |= {module: torch.from_numpy(pair.delta()) for module, pair in job.frozen.items()}
        clock["begun"] = time.process_time()
        about = job.run(observe=observe).report["refinement"]
    scores = {k: round(v, 5) for k, v in scorer.score(batches, update).items()}
    kept = ("steps", "best_step", "tokens", "loss_at_start", "loss", "diverged")
    return {"start_cpu": round(before, 3), "curve": curve, "scores": scores} | {k: about[k] for k in kept}
