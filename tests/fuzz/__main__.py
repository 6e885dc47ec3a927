"""``python -m tests.fuzz --runs 20000``: exit code 1, and the numbers of the inputs, if any of them went wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from lorameta.files.shipped import embedded_path
from tests.fuzz.run import run


def main() -> int:
    """Fuzz, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0, help="other inputs")
    parser.add_argument("--number", type=int, help="this input alone")
    parser.add_argument("--only", help="this kind of input alone")
    parser.add_argument("--bank", type=Path, help="a sound bank; four adapters of the embedded one by default")
    given = parser.parse_args()
    numbers = range(given.runs) if given.number is None else [given.number]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        bank = given.bank or small_bank(Path(folder) / "small")
        found = run(bank, Path(folder), numbers, seed=given.seed, only=given.only)
    for name, count in sorted(found.counts.items()):
        print(f"{name:22} {count:7}, {found.read[name]:6} of them read without an error")
    for failure in found.failures[:50]:
        print(failure)
    print(
        f"{sum(found.counts.values())} inputs in {time.perf_counter() - start:.1f} s, {len(found.failures)} failures; "
        f"the slowest took {found.slowest:.2f} s, the largest {found.memory / 1e6:.0f} MB"
    )
    return int(bool(found.failures))


def small_bank(folder: Path) -> Path:
    """Make a bank of three small adapters, of which every file takes microseconds to read."""
    from tests.fuzz.bank import write

    embedded_path()  # a clone, or an installed package: its tokenizer is used
    return write(folder)


sys.exit(main())
