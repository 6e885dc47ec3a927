"""Run a base of random weights in earnest: tokens, a prompt and a step of training, with their time and memory.

    python tests/doctor/truth.py DIRECTORY DTYPE LENGTH CHECKPOINTING

DIRECTORY holds a config.json. It shares no code with what doctor measures; the step is that of the training engine's
loss on a PEFT model.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, logging

from lorameta.base_model.batch import answer_losses

TOKENS, RANK = 16, 16


class Peak:
    """The largest resident memory of this process while the body runs."""

    def __enter__(self) -> Peak:
        self.largest, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(0.005):
            self.largest = max(self.largest, process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def build(directory: Path, dtype: torch.dtype) -> torch.nn.Module:
    config = AutoConfig.from_pretrained(directory)
    tile = (torch.rand(1 << 20, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.05
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.to_empty(device="cpu")
    for p in model.parameters():
        flat = p.data.view(-1)
        for start in range(0, flat.numel(), len(tile)):
            part = flat[start : start + len(tile)]
            part.copy_(tile[: part.numel()])
    for name, buffer in model.named_buffers():
        if "inv_freq" in name:
            buffer.copy_(10000.0 ** -(torch.arange(buffer.numel()) / buffer.numel()))
    return model.eval().requires_grad_(False)


def main(directory: str, dtype: str, length: str, checkpointing: str) -> None:
    logging.set_verbosity_error()
    tokens = int(length)
    start = psutil.Process().memory_info().rss
    model = build(Path(directory), getattr(torch, dtype))
    ids = torch.randint(5, model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(2))
    seen: dict[str, float] = {"start": start}

    def generate(count: int) -> float:
        begun = time.perf_counter()
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        return time.perf_counter() - begun

    with Peak() as peak:
        generate(1)
        seen["prompt"] = generate(1)
        seen["token"] = (generate(1 + TOKENS) - seen["prompt"]) / TOKENS
    seen["run"] = peak.largest
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    ).train()
    if checkpointing == "yes":
        adapted.enable_input_require_grads()
        adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad])
    answers = torch.zeros_like(ids, dtype=torch.bool)
    answers[:, -tokens // 4 :] = True

    def step() -> float:
        begun = time.perf_counter()
        answer_losses(adapted, ids, torch.ones_like(ids), answers).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begun

    with Peak() as peak:
        step()
        seen["step"] = min(step(), step())
    seen["refine"] = peak.largest
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
