"""The parts of a small bank: what `write_bank` takes, and ways of changing what it wrote."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from lorameta.bank import AdapterRecord, BaseRecord, write_bank
from lorameta.encoder.summary import DatasetSummary, Summaries
from tests.peft_helpers import random_factors, write_peft

IDS = ("beta", "alpha", "delta", "gamma")
WEIGHTS = "adapter_model.safetensors"
TOKENIZER = '{"model": {"type": "WordLevel", "vocab": {"a": 0}}}'
#: Of the above: hashed is what decides how it cuts a text, in canonical form.
HASH = hashlib.sha256(
    b'{"added_tokens":null,"merges":[],"model":{"type":"WordLevel"},"normalizer":null,"pre_tokenizer":null,'
    b'"vocab":{"a":0}}'
).hexdigest()


def summaries_of(ids, tokenizer_hash: str | None = HASH) -> Summaries:
    counts = [np.array([i + 1, 2, 0, 7], dtype=np.int64) for i in range(len(ids))]
    parts = [DatasetSummary(10 + i, count) for i, count in enumerate(counts)]
    return Summaries.from_list(tuple(ids), parts, tokenizer_hash=tokenizer_hash)


def record_of(name: str, **fields) -> AdapterRecord:
    facts = dict(
        task=f"task {name}", family="f", description="d", source={"repo": "o/r", "commit": "c"}, licence="MIT",
        rows={"train": 8, "validation": 1, "test": 1}, training={"lr": 1e-3}, scores={"base": {"exact_match": 0.1}},
    )  # fmt: skip
    return AdapterRecord(name, **{**facts, **fields})


def parts_of(root: Path, ids=IDS, **config) -> dict:
    """Adapters and a base below `root`, and what write_bank takes."""
    (root / "base").mkdir(parents=True)
    (root / "base" / "config.json").write_text("{}")
    (root / "base" / "tokenizer.json").write_text(TOKENIZER)
    for seed, name in enumerate(ids):
        keywords = {"base_model_name_or_path": "our-base", **config}
        write_peft(root / "adapters" / name, random_factors(seed), alpha=6.0, **keywords)
    return dict(
        name="test bank",
        base=BaseRecord("base", name="our-base"),
        summaries=summaries_of(ids),
        records=[record_of(name) for name in ids],
        left_out=[{"id": "omega", "reason": "no better than the base"}],
        recipe={"seed": 1},
    )


def make_bank(root: Path, ids, **config) -> Path:
    write_bank(root, **parts_of(root, ids=ids, **config))
    return root


def edit(root: Path, change) -> None:
    """Change the JSON of bank.json in place."""
    content = json.loads((root / "bank.json").read_text())
    change(content)
    (root / "bank.json").write_text(json.dumps(content))


def summaries_file(root: Path) -> Path:
    """The one file of summaries, which is named after its content."""
    (path,) = root.glob("summaries-*.safetensors")
    return path


def rehash(root: Path, name: str) -> None:
    """Make bank.json agree with the files of an adapter, as one who changed both would."""

    def change(content):
        (record,) = [record for record in content["adapters"] if record["id"] == name]
        directory = root / record["path"]
        data = (directory / WEIGHTS).read_bytes()
        record["sha256"], record["bytes"] = hashlib.sha256(data).hexdigest(), len(data)
        record["config_sha256"] = hashlib.sha256((directory / "adapter_config.json").read_bytes()).hexdigest()

    edit(root, change)
