"""One LoRA step of a base of Mistral-7B's shape, with random weights in bfloat16, beside what `doctor` forecasts."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

from benchmarks.common import ROOT, stamp

TARGETS = ("k_proj", "q_proj", "v_proj")  # of the paper's bank
RANK = 16


def step7b(arguments: argparse.Namespace) -> None:
    import torch
    from transformers import MistralConfig

    from benchmarks.refine.quality import place
    from lorameta.base_model.batch import EncodedExample
    from lorameta.base_model.load import load_tokenizer
    from lorameta.doctor import examine
    from lorameta.training import Base, LoraTraining
    from lorameta.training.adapted import lora_on
    from lorameta.training.engine import answers, backward, clip, losses_of, optimizer_of
    from lorameta.training.measure import peak_memory, without_cache

    config = MistralConfig(num_hidden_layers=arguments.layers, sliding_window=None, dtype="bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        report = examine(folder, rank=RANK, targets=TARGETS, batch_size=1, length=arguments.length)
    modes = {
        (mode.dtype, mode.checkpointing): mode
        for mode in next(u for u in report.capabilities.values() if u.name == "refine").modes
    }
    forecast = modes["bfloat16", False]
    with peak_memory() as peak:
        model = random_model(config)
        base = Base(model, load_tokenizer(ROOT / "adapter_bank" / "tiny" / "base"), "random")
        row = EncodedExample(list(range(3, 3 + arguments.length)), arguments.length - arguments.length // 4)
        settings = LoraTraining(rank=RANK, alpha=2 * RANK, targets=TARGETS)
        seconds = []
        with without_cache(model), lora_on(base, settings) as mounted:
            parameters = [p for p in mounted.parameters() if p.requires_grad]
            optimizer = optimizer_of(parameters, 1e-4, 0.0)
            mounted.train()
            for _ in range(2):
                begun = time.perf_counter()
                loss = backward(losses_of(mounted, 0), [[row]])
                clip(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                seconds.append(time.perf_counter() - begun)
                print(f"step of {arguments.length} tokens: {seconds[-1]:.1f} s, loss {loss:.2f}", flush=True)
        memory = peak()
    result: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": arguments.layers,
        "tokens": arguments.length,
        "answers": answers(row),
        "rank": RANK,
        "targets": list(TARGETS),
        "seconds": {"first": round(seconds[0], 2), "second": round(seconds[1], 2)},
        "peak_memory_gb": round(memory / 1e9, 2),
        "forecast": {"seconds": forecast.seconds.get("step"), "memory_gb": round(forecast.needed / 1e9, 2)},
        "threads": torch.get_num_threads(),
    }
    (place() / "step7b.json").write_text(json.dumps(result | stamp(vars(arguments)), indent=1))
    print(json.dumps(result, indent=1))


def random_model(config: Any) -> Any:
    """The model with numbers of the usual size, tiled from a million random ones: drawing them all takes minutes."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model = model.to_empty(device="cpu")
    tile = (0.02 * torch.randn(1 << 20)).to(torch.bfloat16)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() < 2:
                p.fill_(1.0)
                continue
            flat = p.view(-1)
            for start in range(0, len(flat), len(tile)):
                part = flat[start : start + len(tile)]
                part.copy_(tile[: len(part)])
    # `to_empty` leaves its frequencies unset
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    raise SystemExit("run python -m benchmarks.refine --part step7b")
