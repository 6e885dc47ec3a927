"""Seconds from pressing return to the result, each command in a process of its own.

python -m benchmarks.latency
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import ROOT, stamp, write

DATA = ROOT / "lorameta" / "examples" / "helpdesk_train.jsonl"


def seconds(command: list[str], times: int) -> dict[str, float]:
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - begun)
    return {"median": round(statistics.median(found), 3), "max": round(max(found), 3), "times": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    python = [sys.executable]
    cli = [*python, "-m", "lorameta"]
    with tempfile.TemporaryDirectory() as folder:
        rows = DATA.read_text(encoding="utf-8").splitlines()
        data = Path(folder) / "rows.jsonl"
        data.write_text("\n".join((rows * 2)[:200]) + "\n", encoding="utf-8")  # 200 rows, as many as the goal names
        generate = [*cli, "generate", str(data), "-o", f"{folder}/out", "--force"]
        commands = {
            "python -c pass": [*python, "-c", "pass"],
            "import lorameta": [*python, "-c", "import lorameta"],
            "lorameta --help": [*cli, "--help"],
            "lorameta generate, 200 rows, token distance": [*generate, "--distance", "js"],
            "lorameta generate, 200 rows, sentence distance": [*generate, "--distance", "cosine"],
        }
        result = stamp() | {"seconds": {name: seconds(command, times) for name, command in commands.items()}}
    lines = ["| command, cold process | median s | slowest s |", "|---|---:|---:|"]
    lines += [f"| {name} | {s['median']:.2f} | {s['max']:.2f} |" for name, s in result["seconds"].items()]
    text = (
        f"# Latency\n\nMade by `{result['command']}` at commit {result['commit'][:10]} on {result['machine']}.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    write("latency", result, text)
    print(text)


if __name__ == "__main__":
    main()
