"""What the benchmarks share: where results go, and the commit and machine they are stamped with."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def stamp(arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    """Command, commit and machine of a run; paths are named DATA and TEXT, wherever they lie."""
    given = arguments or {}
    named = {str(given.get("data", "")): "DATA", str(given.get("calibration", "")): "TEXT"}
    words = [named.get(word, word) for word in sys.argv[1:]]
    script = Path(sys.argv[0]).resolve().relative_to(ROOT).with_suffix("")
    name = ".".join(script.parts).removesuffix(".__main__")
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "lorameta", "adapter_bank", f"{script}.py"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    return {
        "command": shlex.join(["python", "-m", name, *words]),
        "commit": found.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
        "machine": f"{os.cpu_count()} {platform.machine()} cores, Python {platform.python_version()}",
    }


def write(name: str, result: dict[str, Any], markdown: str | None = None) -> None:
    """`results/<name>.json`, and the same as Markdown if given."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if markdown is not None:
        (RESULTS / f"{name}.md").write_text(markdown, encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(head: list[str], rows: Iterable[list[str]], left: Collection[int] = (0,)) -> list[str]:
    """Lines of a Markdown table; `left` are the columns of words, the others are aligned on the right."""
    rule = "|" + "".join("---|" if column in left else "---:|" for column in range(len(head)))
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]
