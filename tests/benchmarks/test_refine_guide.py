"""The guide's numbers are those of benchmarks/results/refine.json, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import fill_guide

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "fine-tuning-on-a-cpu.md"


def test_the_guide_says_what_the_results_say():
    guide = GUIDE.read_text(encoding="utf-8")
    assert len(fill_guide.PLACE.findall(guide)) == 6
    assert fill_guide.filled(guide) == guide


@pytest.mark.parametrize("verb", ["doctor", "finetune", "refine", "generate", "evaluate", "export"])
def test_the_options_that_it_names_exist(lorameta, verb):
    guide = GUIDE.read_text(encoding="utf-8")
    named = {
        option for line in re.findall(rf"lorameta {verb} [^`\n#]*", guide) for option in re.findall(r"--[a-z-]+", line)
    }
    help_text = lorameta(verb, "--help").out
    assert all(option in help_text for option in named), named
    if verb == "finetune":
        alone = set(re.findall(r"`(--[a-z-]+)", guide))
        assert alone - {"--refine-minutes"} <= set(re.findall(r"--[a-z-]+", help_text))
