"""A synthetic bank of Mistral-7B's shape, the same numbers for the same seed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LAYERS, HIDDEN, NARROW, RANK, ALPHA = 32, 4096, 1024, 16, 32
MODULES = {
    f"model.layers.{layer}.self_attn.{name}": (d_out, HIDDEN)
    for layer in range(LAYERS)
    for name, d_out in (("q_proj", HIDDEN), ("k_proj", NARROW), ("v_proj", NARROW))
}
PARAMETERS = RANK * sum(map(sum, MODULES.values()))
BASE = "mistralai/Mistral-7B-Instruct-v0.2"
SHARD = 64  # adapters a shard: 1.2 GB in bfloat16
TOP = 8


@dataclass(frozen=True)
class Synthetic:
    """One adapter, drawn tensor by tensor when it is written."""

    number: int
    dtype: str

    def rows(self) -> Iterator[tuple[str, str, np.ndarray]]:
        from lorameta.files.tensors import narrow

        for place, name in enumerate(sorted(f"{module}.lora_{half}" for module in MODULES for half in "AB")):
            rng = np.random.default_rng([2026, self.number, place])
            module, _, half = name.rpartition(".")
            d_out, d_in = MODULES[module]
            if half == "lora_A":
                numbers = rng.random((RANK, d_in), dtype=np.float32) * np.float32(2) - np.float32(1)
                numbers *= np.float32(d_in**-0.5)
            else:
                numbers = rng.standard_normal((RANK, d_out), dtype=np.float32)
                numbers *= (np.float32(0.01) * np.float32(0.8) ** np.arange(RANK, dtype=np.float32))[:, None]
            yield name, self.dtype, narrow(numbers, self.dtype)


def make_bank(folder: Path, count: int, dtype: str) -> Path:
    """A stacked bank, its configurations and its summaries; what is there already is left as it is."""
    from lorameta.adapter.peft_format import CONFIG
    from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest
    from lorameta.bank.sharding.shard import write_shard
    from lorameta.encoder import Summaries, TokenCounts

    root = folder / f"{dtype.lower()}-{count}"
    if (root / "bank.json").is_file():
        return root
    shutil.rmtree(root, ignore_errors=True)
    (root / "shards").mkdir(parents=True)
    config = {
        "base_model_name_or_path": BASE, "bias": "none", "lora_alpha": ALPHA, "lora_dropout": 0.0, "peft_type": "LORA",
        "r": RANK, "target_modules": ["k_proj", "q_proj", "v_proj"], "task_type": "CAUSAL_LM",
    }  # fmt: skip
    from lorameta.files.atomic import sha256

    text = (json.dumps(config, indent=2) + "\n").encode()
    ids = [f"task{number:04d}" for number in range(count)]
    names = sorted(f"{module}.lora_{half}" for module in MODULES for half in "AB")
    layout = tuple((name, dtype, (RANK, MODULES[name[:-7]][1 if name.endswith("A") else 0])) for name in names)
    shards, records = {}, []
    for start in range(0, count, SHARD):
        some = ids[start : start + SHARD]
        path = root / "shards" / "new.safetensors"
        adapters = (Synthetic(number, dtype) for number in range(start, start + len(some)))
        entry, digests = write_shard(path, some, layout, adapters)
        name = f"shards/{entry['sha256'][:16]}.safetensors"
        path.rename(root / name)
        shards[name] = entry
        for row, (one, digest) in enumerate(zip(some, digests, strict=True)):
            (root / "adapters" / one).mkdir(parents=True)
            (root / "adapters" / one / CONFIG).write_bytes(text)
            records.append(
                AdapterRecord(
                    one, one, "synthetic", licence="none", rank=RANK, alpha=ALPHA, rslora=False,
                    targets=("k_proj", "q_proj", "v_proj"), path=f"adapters/{one}", sha256=digest,
                    config_sha256=sha256(text), bytes=PARAMETERS * (2 if dtype == "BF16" else 4), shard=name, row=row,
                    row_sha256=digest,
                )
            )  # fmt: skip
        print(f"  {dtype} {start + len(some)} of {count}", file=sys.stderr, flush=True)
    rng = np.random.default_rng(0)
    counts = (np.bincount(rng.zipf(1.3, 4000) % 32000, minlength=32000) for _ in ids)
    summaries = Summaries(tuple(ids), np.full(count, 200), TokenCounts.stack(counts, 32000))
    data = summaries.save(root / "summaries.safetensors").read_bytes()
    found = {"file": "summaries.safetensors", "sha256": sha256(data), "bytes": len(data)}
    manifest = Manifest("synthetic", BaseRecord(BASE), found, tuple(records), shards=shards)
    (root / "bank.json").write_text(json.dumps(manifest.as_dict(), indent=1))
    return root


def warm(bank: Path) -> None:
    """Have the shards in the system's cache as they come from the disk: read in order, not as they were written."""
    buffer = memoryview(bytearray(1 << 24))
    for file in sorted((bank / "shards").glob("*.safetensors")):
        with file.open("rb", buffering=0) as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while stream.readinto(buffer):
                pass
