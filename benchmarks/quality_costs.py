"""Seconds and peak memory of every row of the study, as a user sees them: `lorameta generate` in a cold process.

The dataset is the help desk example. Fine-tuning is the recipe of the bank on one of its tasks, on one thread.

    python benchmarks/quality_costs.py --data DATA
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, stamp, write
from methods import Method, catalogue

from lorameta.distance import DISTANCES

ROWS = ROOT / "lorameta" / "examples" / "helpdesk_train.jsonl"
TUNED = "clinc_domain"


def generated(method: Method) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        options = {"distance": method.distance, "operator": method.operator, "combiner": method.combiner}
        if method.distance not in DISTANCES:
            del options["distance"]
        if method.name.startswith("trial"):
            options["operator"] = "trial"
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        done = subprocess.run(
            [sys.executable, "-m", "lorameta", "generate", str(ROWS), "-o", f"{folder}/adapter", "--json", *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        report = json.loads(done.stdout)
    return {"seconds": round(report["total_seconds"], 2), "peak_memory_mb": report["peak_memory_mb"]}


def tuned(data: Path) -> dict[str, float]:
    """One adapter of the bank's recipe, trained in a child process; its memory is that of the largest child."""
    recipe = ROOT / "adapter_bank" / "recipe" / "adapters.py"
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, recipe, "--data", data, "--trial", "--workers", "1", "--tasks", TUNED],
        capture_output=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return {"seconds": round(seconds, 2), "peak_memory_mb": peak, "task": TUNED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    costs = {"fine-tuned": tuned(arguments.data)}
    mixes = [m for m in catalogue() if m.group in ("grid", "baselines") and m.kind in ("mix", "search")]
    for done, method in enumerate(mixes, start=1):
        costs[method.name] = generated(method)
        print(f"{done}/{len(mixes)} {method.name}: {costs[method.name]}", file=sys.stderr)
    write("quality_costs", stamp(vars(arguments)) | {"rows": len(ROWS.read_text().splitlines()), "costs": costs})


if __name__ == "__main__":
    main()
