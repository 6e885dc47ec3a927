"""Write the numbers of the guide "Fine-tuning on a CPU" from `results/refine.json`; a test compares the two.

python -m benchmarks.fill_guide.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.refine.report import PARTS

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "fine-tuning-on-a-cpu.md"
RESULT = ROOT / "benchmarks" / "results" / "refine.json"
PLACE = re.compile(r"(<!-- refine (\w+) -->\n).*?(<!-- /refine \2 -->)", re.DOTALL)


def filled(guide: str) -> str:
    """The guide with each marked place made anew; a part that was not measured says so."""
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}

    def fill(found: re.Match[str]) -> str:
        part = found[2]
        lines = PARTS[part][2](result[part]) if part in result else ["Not measured yet.", ""]
        if part in result:
            lines += [f"(on {result[part]['made']['machine']}; [refine.md](../benchmarks/results/refine.md))", ""]
        return found[1] + "\n".join(lines[:-1]) + "\n" + found[3]

    return PLACE.sub(fill, guide)


if __name__ == "__main__":
    GUIDE.write_text(filled(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
