"""Banks of Mistral-7B's shape: how fast adapters are mixed, opened and checked, beside what machine and PEFT can do.

    python -m benchmarks.scale --adapters 502 --folder FOLDER

makes a synthetic bank in FOLDER (r = 16 on q, k and v of 32 layers, 9.44 M numbers an adapter; the same numbers for the
same seed), once in bfloat16 and once in float32, and keeps it there. Every measurement runs in a process of its own, so
that its peak memory is its own: the largest resident memory less what was resident after the imports, mapped files
included. Times are of files that are in the system's cache. What is compared with each other is measured alternately.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, stamp, write
from benchmarks.scale import measures, others
from benchmarks.scale.bank import MODULES, PARAMETERS, make_bank, warm
from benchmarks.scale.report import markdown

MEASURES: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "open": measures.measure_open,
    "dense": measures.measure_dense,
    "top": measures.measure_top,
    "count": measures.measure_count,
    "peft": others.measure_peft,
    "matrix": others.measure_matrix,
    "check": measures.measure_check,
}


def in_its_own_process(measure: str, bank: Path, arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--measure", measure, "--bank", str(bank), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{measure} {bank.name}: {json.dumps(result)[:600]}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=502)
    parser.add_argument("--folder", type=Path, help="where the synthetic banks are made and kept")
    parser.add_argument("--dtypes", nargs="*", default=["BF16", "F32"], choices=["BF16", "F16", "F32"])
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--name", default="scale", help="of the file in benchmarks/results")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peft-layers", type=int, default=1)
    parser.add_argument("--spare", type=float, default=3.0, help="GB left free by the paper's way")
    parser.add_argument("--cold", action="store_true", help="also drop the system's cache (needs root)")
    parser.add_argument("--without-numba", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--bank", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure](options.bank, options)))
        return
    if options.folder is None:
        parser.error("--folder is needed: some gigabytes go there")
    found = stamp({"data": options.folder})
    handed = ["--rounds", str(options.rounds), "--peft-layers", str(options.peft_layers), "--spare", str(options.spare)]
    handed += ["--cold"] * options.cold
    results: dict[str, Any] = {}
    for dtype in options.dtypes:
        bank = make_bank(options.folder, options.adapters, dtype)
        warm(bank)
        for name in options.only:
            if dtype != options.dtypes[0] and name not in ("open", "dense"):
                continue
            results.setdefault(dtype, {})[name] = in_its_own_process(name, bank, handed)
            if name == "dense" and dtype != "F32":
                found_without = in_its_own_process(name, bank, [*handed, "--without-numba"])
                results[dtype]["dense_without_numba"] = found_without
    result = found | {"parameters": PARAMETERS, "modules": len(MODULES), "results": results}
    write(options.name, result, markdown(result))


if __name__ == "__main__":
    main()
