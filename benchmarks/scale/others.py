"""The same merges by PEFT and in the way of the paper's code."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale.bank import ALPHA, BASE, HIDDEN, LAYERS, MODULES, PARAMETERS, RANK, TOP
from benchmarks.scale.timing import peak, resident, seconds, weights_of


def measure_peft(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    """PEFT's add_weighted_adapter and lorameta on the same eight adapters of the first `--peft-layers` layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.combiner import combine

    opened = AdapterBank.open(bank)
    names = [opened.ids[i] for i in np.random.default_rng(2).choice(len(opened), TOP, replace=False)]
    weights = weights_of(TOP)
    layers = options.peft_layers
    modules = [module for module in MODULES if int(module.split(".")[2]) < layers]
    adapters = [
        Adapter({module: whole.modules[module] for module in modules}, BASE, name=name)
        for name in names
        for whole in [opened.lazy(name)]
    ]
    config = MistralConfig(
        vocab_size=64, hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128,
    )  # fmt: skip
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "k_proj", "v_proj"])
    model = get_peft_model(MistralForCausalLM(config), lora, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, lora)
    layer_of = {module: model.get_submodule(f"base_model.model.{module}") for module in modules}
    with torch.no_grad():
        for adapter in adapters:
            for module, pair in adapter.modules.items():
                layer_of[module].lora_A[adapter.name].weight.copy_(torch.from_numpy(pair.A))
                layer_of[module].lora_B[adapter.name].weight.copy_(torch.from_numpy(pair.B))

    exact, best = {}, {}
    for module in modules:
        exact[module] = sum(
            w * a.modules[module].scaling * a.modules[module].B.astype(float) @ a.modules[module].A.astype(float)
            for w, a in zip(weights, adapters, strict=True)
        )
        best[module] = np.sqrt(np.square(np.linalg.svd(exact[module], compute_uv=False)[RANK:]).sum())

    def error(update: Callable[[str], np.ndarray]) -> float:
        """‖made − Σ w ΔW‖ / ‖Σ w ΔW‖ over all modules, against the dense sum in float64."""
        gap = sum(np.square(update(module) - exact[module]).sum() for module in modules)
        return float(np.sqrt(gap / sum(np.square(one).sum() for one in exact.values())))

    ours: list[float] = []

    def lorameta() -> None:
        nonlocal made
        made = combine(adapters, weights, rank=RANK)[0]

    made: dict[str, Any] = {}
    lorameta()
    rows = {}
    for kind in ("svd", "linear", "cat"):
        extra = {"svd_rank": RANK} if kind == "svd" else {}
        ours += [seconds(lorameta) for _ in range(3)]
        spent = seconds(
            lambda kind=kind, extra=extra: model.add_weighted_adapter(
                names, weights.tolist(), kind, combination_type=kind, **extra
            )
        )
        ours += [seconds(lorameta) for _ in range(3)]

        def peft_update(module: str, kind: str = kind) -> np.ndarray:
            layer = layer_of[module]
            A, B = (half[kind].weight.detach().double().numpy() for half in (layer.lora_A, layer.lora_B))
            return layer.scaling[kind] * B @ A

        rows[kind] = {
            "seconds": spent,
            "error": error(peft_update),
            "rank": layer_of[modules[0]].lora_A[kind].out_features,
        }
        model.delete_adapter(kind)
    spent = statistics.median(ours)
    whole = {"layers": layers, "modules": len(modules)}
    mine = {"seconds": spent, "error": error(lambda m: made[m].B.astype(float) @ made[m].A.astype(float))}
    best_error = float(np.sqrt(sum(b**2 for b in best.values()) / sum(np.square(one).sum() for one in exact.values())))
    for row in rows.values():
        row["times_slower"] = row["seconds"] / spent
        row["seconds_for_all_layers"] = row["seconds"] * LAYERS / layers
    return whole | {"lorameta": mine, "peft": rows, "best_possible_error": best_error}


def measure_matrix(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The paper's way: all adapters as rows of one float32 matrix, and one product with the weights."""
    from lorameta.bank import AdapterBank

    before = resident()
    facts = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in facts if line.startswith("MemAvailable"))
    opened = AdapterBank.open(bank)
    count = min(len(opened), int((available * 1024 / 1e9 - options.spare) * 1e9 // (4 * PARAMETERS)))
    matrix = np.empty((count, PARAMETERS), dtype=np.float32)

    def load() -> None:
        for row, name in zip(matrix, opened.ids, strict=False):
            start = 0
            for pair in opened.lazy(name).modules.values():
                for part in (pair.A, pair.B):
                    row[start : start + part.size] = part.reshape(-1)
                    start += part.size

    loaded = seconds(load)
    weights = weights_of(count).astype(np.float32)
    products = [seconds(lambda: weights @ matrix) for _ in range(3)]
    return {
        "adapters": count,
        "load_seconds": loaded,
        "product_seconds": statistics.median(products),
        "peak_gb": peak() - before,
    }
