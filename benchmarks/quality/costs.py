"""Seconds and peak memory of the methods as a user sees them: each command in a cold process, on the help desk rows.

python -m benchmarks.quality.costs --bank smollm2
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from typing import Any

from benchmarks.common import stamp, write
from benchmarks.quality.methods import METHODS, STUDY
from lorameta.bank import AdapterBank
from lorameta.examples import path

ROWS = path("helpdesk_train.jsonl")
TUNED = "fine-tuned"


def commands(bank: AdapterBank, names: list[str]) -> dict[str, list[str]]:
    """Words of the command line by method: those that are a call of `generate_adapter`, and a fine-tuning."""
    found = {TUNED: ["finetune", str(ROWS), "--base", str(bank.base_model)]}
    for name in names:
        make = METHODS[name].make
        if isinstance(make, partial) and (options := {k: v for k, v in make.keywords.items() if isinstance(v, str)}):
            words = [word for option, value in options.items() for word in (f"--{option}", value)]
            found[name] = ["generate", str(ROWS), "--bank", str(bank.path), *words]
    return found


def cost(words: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lorameta", *words, "-o", f"{folder}/adapter", "--json"]
        report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {"seconds": round(report["total_seconds"], 2), "peak_memory_mb": report["peak_memory_mb"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", default="smollm2")
    bank = AdapterBank.open(parser.parse_args().bank)
    costs = {}
    for name, words in commands(bank, list(STUDY)).items():
        costs[name] = cost(words)
        print(name, costs[name], file=sys.stderr, flush=True)
    rows = len(ROWS.read_text(encoding="utf-8").splitlines())
    write(f"quality_costs_{bank.name}", stamp() | {"bank": bank.name, "rows": rows, "costs": costs})


if __name__ == "__main__":
    main()
