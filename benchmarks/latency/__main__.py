"""Seconds from pressing return to the result, and peak memory, each command in a process of its own.

python -m benchmarks.latency
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import ROOT, stamp, write

DATA = ROOT / "lorameta" / "examples" / "helpdesk_train.jsonl"


def seconds(command: list[str], times: int) -> dict[str, float]:
    """Wall and CPU seconds and peak memory; on a machine that others use, the CPU seconds say what a command costs."""
    walls, cpus, peaks = [], [], []
    for _ in range(times):
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            said = process.stderr.read() if process.stderr else b""
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command}: {said.decode()}")
        walls.append(time.perf_counter() - begun)
        cpus.append(used.ru_utime + used.ru_stime)
        peaks.append(used.ru_maxrss / 1024)
    return {
        "median": round(statistics.median(walls), 3), "max": round(max(walls), 3),
        "cpu": round(statistics.median(cpus), 3), "peak_mb": round(max(peaks)), "times": times,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--bank", default="smollm2")
    options = parser.parse_args()
    python = [sys.executable]
    cli = [*python, "-m", "lorameta"]
    opening = f"from lorameta.bank import AdapterBank; AdapterBank.open({options.bank!r})"
    with tempfile.TemporaryDirectory() as folder:
        rows = DATA.read_text(encoding="utf-8").splitlines()
        data = Path(folder) / "rows.jsonl"
        data.write_text("\n".join((rows * 2)[:200]) + "\n", encoding="utf-8")  # 200 rows, as many as the goal names
        generate = [*cli, "generate", str(data), "-o", f"{folder}/out", "--force", "--bank", options.bank]
        alone = [*generate, "--operator", "normalized", "--distance"]
        bare = Path(folder) / "bare.jsonl"
        inputs = [json.dumps({**json.loads(row), "output": None}) for row in (rows * 2)[:200]]
        bare.write_text("\n".join(inputs) + "\n", encoding="utf-8")
        unlabelled = [str(bare) if word == str(data) else word for word in generate]
        labelled = [str(DATA) if word == str(data) else word for word in generate]
        commands = {
            "python -c pass": [*python, "-c", "pass"],
            "import lorameta": [*python, "-c", "import lorameta"],
            "lorameta --help": [*cli, "--help"],
            f"AdapterBank.open({options.bank!r})": [*python, "-c", opening],
            "lorameta generate, 200 rows without answers": unlabelled,
            f"lorameta generate, {len(rows)} rows with answers": labelled,
            "lorameta generate, 200 rows, normalized js": [*alone, "js"],
            "lorameta generate, 200 rows, normalized cosine (sentences)": [*alone, "cosine"],
        }
        result = stamp() | {"bank": options.bank}
        result["seconds"] = {name: seconds(command, options.times) for name, command in commands.items()}
    write("latency", result)


if __name__ == "__main__":
    main()
