"""What the doctor proposes on machines that are too small, too full or too slow."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from lorameta.base_model.shape import outline
from lorameta.doctor.advice import advise
from lorameta.doctor.quantized import sizes
from lorameta.machine.disk import Disk
from tests.doctor.configs import mistral_7b
from tests.doctor.judging import DISK, GB, MACHINE, RUNTIME, judged


def test_a_laptop_of_8_gb_generates_and_is_sent_to_llama_cpp():
    verdicts, advice, shape = judged(7, memory=8 * GB)
    assert verdicts["generate"].best is not None
    assert verdicts["run"].best is None
    assert verdicts["run"].verdict.startswith("no: 15.")
    (run,) = [line for line in advice if line.startswith("Run:")]
    assert "as Q4_K_M" in run
    assert "lorameta export ADAPTER --format gguf" in run
    assert f"at best {4.3677 / 20:.2f} s a token" in run
    (smaller,) = [line for line in advice if line.startswith("Refine:")]
    most = float(re.search(r"up to about ([\d.]+) billion", smaller)[1]) * GB
    # A base of that size has everything in proportion; it fits, one that is a third larger does not.
    least = min(verdicts["refine"].modes, key=lambda mode: mode.needed)
    for share, fits in ((most / shape.parameters, True), (1.33 * most / shape.parameters, False)):
        assert (RUNTIME + (least.needed - RUNTIME) * share <= 7.1 * GB) is fits


def test_twelve_gb_take_it_in_eight_bits():
    advice = judged(12, memory=12 * GB)[1]
    assert sum("as Q8_0" in line for line in advice) == 1
    assert not any("Q4_K_M" in line for line in advice)


def test_rows_that_fit_are_the_longest_that_do():
    verdicts, advice, shape = judged(18, length=4096, memory=18 * GB)
    assert verdicts["run"].best is not None
    assert verdicts["refine"].best is None
    (line,) = [line for line in advice if "rows of at most" in line]
    most = int(re.search(r"at most (\d+) tokens", line)[1])
    found = judged(60, length=4096)[0]["refine"]
    kept = next(mode for mode in found.modes if mode.dtype == "bfloat16" and mode.checkpointing)
    other = kept.needed - kept.parts["activations"] - kept.parts["logits"] - kept.parts["heap"]
    each = (kept.needed - other) / 4096
    assert other + most * each <= 18 * GB < other + (most + 32) * each
    assert shape.layers == 32


def test_a_large_batch_is_taken_row_by_row():
    advice = judged(20, batch=8, length=512, memory=20 * GB)[1]
    assert any("one row at a time" in line for line in advice)
    assert not any("rows of at most" in line for line in advice)


def test_fewer_layers_are_proposed_where_they_are_enough():
    full = judged(60)[0]["refine"]
    least = min(mode.needed for mode in full.modes)
    advice = judged((least - 0.3 * GB) / GB, memory=int(least - 0.3 * GB))[1]
    assert any("an adapter on q_proj, v_proj alone" in line for line in advice)
    advice = judged((least - 2 * GB) / GB, memory=int(least - 2 * GB))[1]
    assert not any("an adapter on" in line for line in advice)


def test_memory_that_others_hold_or_a_container_forbids_is_named():
    advice = judged(10, memory=64 * GB)[1]
    assert any("in use by other programs" in line and "run and refine" in line for line in advice)
    advice = judged(8, memory=64 * GB, limit=8 * GB)[1]
    assert any("this container may use 8.0 GB of the machine's 64.0 GB; allow it" in line for line in advice)
    assert not any("other programs" in line for line in advice)


def test_a_slow_or_full_disk_is_named():
    verdicts, _, shape = judged(60)
    bytes_of = {"float32": 4 * shape.parameters, "bfloat16": 2 * shape.parameters} | sizes(shape.blocks)
    settings = {"length": 512, "batch_size": 1, "rank": 16}
    disk = Disk("/here", 10 * GB, 100 * GB, 100e6)
    said = advise(MACHINE, disk, shape, settings, bytes_of, verdicts, {}, None, local=False)
    assert len(said) == 2
    assert "10.0 GB are free in /here" in said[0]
    assert "reads 100 MB per second" in said[1]
    assert "2 min" in said[1]
    assert advise(MACHINE, replace(disk, read=10**9), shape, settings, bytes_of, verdicts, {}, None, local=True) == []


def test_a_slow_pace_is_held_against_llama_cpp():
    shape = outline(mistral_7b(), "m", None, ("all-linear",), 16)
    assert judged(60)[1] == []  # 0.33 s a token, and llama.cpp at best 0.22 s
    verdicts = judged(60)[0]
    mode = replace(verdicts["run"].best, seconds={"token": 2.0, "prompt": 1.0})
    verdicts = verdicts | {"run": replace(verdicts["run"], best=mode)}
    bytes_of = {"float32": 0, "bfloat16": 0} | sizes(shape.blocks)
    said = advise(MACHINE, DISK, shape, {"length": 512}, bytes_of, verdicts, {}, 20e9, local=True)
    assert len(said) == 1
    assert "2.0 s a token is slow" in said[0]
