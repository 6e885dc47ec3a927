"""Refinement: settings, quality against CPU seconds, speed against the plain Trainer, a step of a 7B base.

Each part keeps what it measured under `.work/refine`, so that a run that was stopped goes on, and parts may be run one
by one; the report is made of what is there.

    python -m benchmarks.refine --data DATA                     # settings, quality and speed, then the report
    python -m benchmarks.refine --data DATA --part bases        # forecasts for bases of well-known shapes
    python -m benchmarks.refine --data DATA --part step7b       # slow: needs 16 GB of memory
    python -m benchmarks.refine --data DATA --part report
    python -m benchmarks.refine --data DATA --bank smollm2 --part few report --few 128 --few-epochs 3 --tasks 4
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.refine.quality import RUNS, TINY

PARTS = ("settings", "quality", "few", "speed", "bases", "step7b", "report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", nargs="*", choices=PARTS, default=["settings", "quality", "few", "speed", "report"])
    parser.add_argument("--bank", default=TINY, help="of the parts quality and few; results of each bank apart")
    parser.add_argument("--precision", default="float32", help="of training in these parts")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), help="in these parts")
    parser.add_argument("--tasks", type=int, default=12, help="of the bank, left out one at a time")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="tasks at once, with a thread each")
    parser.add_argument("--epochs", type=int, default=3, help="of the full fine-tune; 3 is what `finetune` does")
    parser.add_argument("--learning-rate", type=float, help="of all runs; by default that of `finetune`")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="of all runs; that of `finetune` for 128 rows or more"
    )
    parser.add_argument("--few", type=int, default=64, help="rows to learn from in the part on few rows")
    parser.add_argument("--few-epochs", type=int, default=10, help="of its full fine-tune")
    parser.add_argument("--more-tasks", type=int, default=6, help="other ones, for the part that compares settings")
    parser.add_argument("--seeds", type=int, default=3, help="of each run of that part")
    parser.add_argument("--rows", type=int, default=64, help="test rows a task at most")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each variant of the speed part")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of a variant")
    parser.add_argument("--only-small", action="store_true", help="leave the base of 100 million parameters out")
    parser.add_argument("--length", type=int, default=512, help="tokens of the row of such a step")
    parser.add_argument("--layers", type=int, default=32, help="of the 7B base; fewer for a quick look")
    arguments = parser.parse_args()
    if "settings" in arguments.part:
        from benchmarks.refine.settings import compare

        compare(arguments)
    if "quality" in arguments.part:
        from benchmarks.refine.quality import quality

        quality(arguments)
    if "few" in arguments.part:
        from benchmarks.refine.quality import few

        few(arguments)
    if "speed" in arguments.part:
        from benchmarks.refine.speed import speed

        speed(arguments)
    if "bases" in arguments.part:
        from benchmarks.refine.bases import bases

        bases(arguments)
    if "step7b" in arguments.part:
        from benchmarks.refine.step7b import step7b

        step7b(arguments)
    if "report" in arguments.part:
        from benchmarks.refine.report import report

        report(arguments.bank)


if __name__ == "__main__":
    main()
