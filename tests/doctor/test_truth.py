"""What doctor forecasts, beside what a model of 1.1 billion random parameters really takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lorameta.doctor import examine

pytestmark = pytest.mark.slow
pytest.importorskip("torch")
pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

LENGTH = 128
#: A forecast may be off by this factor, either mode.
TIME, MEMORY = 1.5, 1.2
#: Other programs may have the processor while one of the two is measured: so often it is tried.
TRIES = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """TinyLlama-1.1B's shape."""
    path = tmp_path_factory.mktemp("bases") / "tiny-llama"
    transformers.LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
        num_key_value_heads=4, dtype="bfloat16",
    ).save_pretrained(path)  # fmt: skip
    return path


def forecast(base: Path, dtype: str, checkpointing: bool) -> dict[str, float]:
    report = examine(base, rank=16, targets=("all-linear",), length=LENGTH)
    run = next(mode for mode in report.capabilities["run"].modes if mode.dtype == dtype)
    modes = report.capabilities["refine"].modes
    refine = next(mode for mode in modes if (mode.dtype, mode.checkpointing) == (dtype, checkpointing))
    return {**run.seconds, **refine.seconds, "run": run.needed, "refine": refine.needed}


def truth(base: Path, dtype: str, checkpointing: bool) -> dict[str, float]:
    words = [base, dtype, LENGTH, "yes" if checkpointing else "no"]
    script = Path(__file__).with_name("truth.py")
    done = subprocess.run(
        [sys.executable, script, *map(str, words)], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("dtype", "checkpointing"), [("bfloat16", False), ("bfloat16", True), ("float32", False)])
def test_the_forecast_is_near_the_truth(base, dtype, checkpointing):
    ratios: dict[str, list[float]] = {}
    for _ in range(TRIES):
        expected, found = forecast(base, dtype, checkpointing), truth(base, dtype, checkpointing)
        for name in ("token", "prompt", "step", "run", "refine"):
            ratios.setdefault(name, []).append(expected[name] / found[name])
        print(dtype, checkpointing, {name: round(values[-1], 2) for name, values in ratios.items()})
        best = {name: min(values, key=lambda ratio: max(ratio, 1 / ratio)) for name, values in ratios.items()}
        off = {
            name: ratio
            for name, ratio in best.items()
            if not 1 / (factor := MEMORY if name in ("run", "refine") else TIME) <= ratio <= factor
        }
        if not off:
            return
    raise AssertionError(f"forecast over truth: {ratios}")
