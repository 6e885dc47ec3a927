"""Changing a bank in tests: a new adapter with its summary, the age of what waits to be deleted, what a reader sees."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from lorameta.bank import AdapterBank
from lorameta.encoder import Summaries
from tests.peft_helpers import write_peft

WEIGHTS = "adapter_model.safetensors"
SHAPES = {
    f"model.layers.{layer}.self_attn.{name}": (out, 32)
    for layer in range(2)
    for name, out in (("q_proj", 32), ("k_proj", 16), ("v_proj", 16))
}


def make_newcomer(folder: Path, name: str, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    factors = {
        module: (rng.normal(size=(4, d_in)).astype(np.float32), rng.normal(size=(d_out, 4)).astype(np.float32))
        for module, (d_out, d_in) in SHAPES.items()
    }
    return write_peft(folder / name, factors, alpha=8, base_model_name_or_path="base")


def summary_for(root: Path, name: str) -> Summaries:
    """The summary of one of the bank's own tasks, under another name."""
    known = AdapterBank.open(root).summaries
    return replace(known.select([known.ids[0]]), ids=(name,))


def age(root: Path, seconds: float) -> None:
    """Make what waits to be deleted, and what lies in the staging folder, older."""
    path = root / ".lorameta" / "retired.json"
    if path.is_file():
        journal = json.loads(path.read_text())
        path.write_text(json.dumps({name: since - seconds for name, since in journal.items()}))
    for one in (root / ".lorameta" / "staging").rglob("*"):
        os.utime(one, (time.time() - seconds,) * 2)


def content(root: Path) -> dict:
    """What a reader sees: the manifest, and the bytes of what it names."""
    bank = AdapterBank.open(root)
    ids = sorted(bank.ids)
    return {
        "ids": ids,
        "summaries": bank.summaries.select(ids).token_counts.toarray().tolist(),
        "weights": [(root / bank.records[name].path / WEIGHTS).read_bytes() for name in ids],
    }
