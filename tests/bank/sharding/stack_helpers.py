"""Banks of adapters of mixed rank, scaling, dtype and targets for tests; their files are written by safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lorameta.adapter.lazy import LazyModules
from lorameta.bank import AdapterBank, AdapterRecord, BaseRecord, write_bank
from lorameta.bank.edit import update
from lorameta.encoder.summary import DatasetSummary, Summaries
from tests.bank.parts import edit
from tests.peft_helpers import SHAPES, K, Q

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Spec:
    """One adapter; `infix` is the adapter's name in the keys, which older files have."""

    rank: int = 3
    alpha: float = 6.0
    rslora: bool = False
    dtype: str = "bfloat16"
    modules: tuple[str, ...] = tuple(SHAPES)
    infix: str = ""
    seed: int = 0
    more: dict = field(default_factory=dict)


#: Five layouts: two ranks, three dtypes and two sets of modules.
MIXED = {
    "a": Spec(),
    "b": Spec(alpha=1.5, rslora=True),
    "c": Spec(rank=2),
    "d": Spec(dtype="float16"),
    "e": Spec(dtype="float32"),
    "f": Spec(modules=(Q, K)),
    "g": Spec(),
}


def write_adapter(directory: Path, spec: Spec) -> None:
    import torch
    from safetensors.torch import save_file

    rng = np.random.default_rng(spec.seed)
    tensors = {}
    for module in spec.modules:
        d_out, d_in = SHAPES[module]
        for half, shape in (("A", (spec.rank, d_in)), ("B", (d_out, spec.rank))):
            numbers = torch.from_numpy(rng.normal(size=shape)).to(getattr(torch, spec.dtype))
            tensors[f"base_model.model.{module}.lora_{half}{spec.infix}.weight"] = numbers
    directory.mkdir(parents=True)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    config = {
        "base_model_name_or_path": "some/base",
        "bias": "none",
        "lora_alpha": spec.alpha,
        "peft_type": "LORA",
        "r": spec.rank,
        "target_modules": sorted({module.rpartition(".")[2] for module in spec.modules}),
        "task_type": "CAUSAL_LM",
        "use_rslora": spec.rslora,
        **spec.more,
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))


def make_bank(root: Path, specs: dict[str, Spec]) -> Path:
    """A bank of these adapters; each has numbers of its own."""
    for number, (name, spec) in enumerate(specs.items()):
        write_adapter(root / "adapters" / name, Spec(**{**spec.__dict__, "seed": spec.seed + number}))
    parts = [DatasetSummary(10 + i, np.array([i + 1, 2, 0, 7])) for i in range(len(specs))]
    write_bank(
        root,
        name="mixed",
        base=BaseRecord("some/base", tokenizer_hash="t" * 8),
        summaries=Summaries.from_list(tuple(specs), parts, tokenizer_hash="t" * 8),
        records=[AdapterRecord(name, task=name, family="f") for name in specs],
    )
    return root


def files(root: Path) -> dict[str, bytes]:
    """Every file of a bank by its relative path, except those of the work folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".lorameta" not in path.parts
    }


def numbers(bank: AdapterBank, *, lazy: bool = False) -> dict[str, dict[str, tuple]]:
    """Id → module → (bytes of A, bytes of B, scaling)."""
    adapters = {name: bank.lazy(name) if lazy else bank[name] for name in bank}
    return {
        name: {module: (pair.A.tobytes(), pair.B.tobytes(), pair.scaling) for module, pair in adapter.modules.items()}
        for name, adapter in adapters.items()
    }


def lacks_weights(root: Path) -> bool:
    return not list(root.glob(f"adapters/*/{WEIGHTS}"))


def remove(root: Path, id: str) -> None:
    """Take an adapter out of a bank, as a writer does."""
    update(root, lambda old: replace(old, adapters=tuple(one for one in old.adapters if one.id != id)))


def spans(root: Path, id: str) -> list[tuple[int, int]]:
    modules = AdapterBank.open(root).lazy(id).modules
    assert isinstance(modules, LazyModules)
    assert modules.shard is modules.file
    found = []
    for entry in modules.file.entries.values():
        size = (entry.stop - entry.start) // entry.shape[0]
        found.append((entry.start + modules.row * size, entry.start + (modules.row + 1) * size))
    return found


def change_record(root: Path, id: str, **fields) -> None:
    def change(content):
        (record,) = [record for record in content["adapters"] if record["id"] == id]
        record.update(fields)

    edit(root, change)
