"""Tokens a second and memory of the training, against transformers' plain Trainer on the same rows and settings.

Each variant runs in a process of its own, several times, in turns, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, stamp
from benchmarks.rows import tasks_folder
from lorameta.data import Example, load_examples

#: What is measured: the Trainer twice, ours, and ours with one thing taken back or changed.
VARIANTS = (
    "Trainer", "Trainer, rows grouped by length", "ours", "ours, logits of all tokens", "ours, rows in random order",
    "ours, whole batches at once", "ours, optimizer not fused", "ours, keys and values kept", "ours, bfloat16",
    "ours, compiled", "ours, upper half of the layers", "ours, upper half, states kept (second epoch)",
)  # fmt: skip
#: Of the larger base: the rest says little about it that the smaller one does not.
FEW = (*VARIANTS[:5], "ours, bfloat16", *VARIANTS[-2:])
BASES = ("embedded base", "random Mistral, 100 million")
SETTINGS = {BASES[0]: {"batch": 8, "rank": 8}, BASES[1]: {"batch": 8, "rank": 8}}


def speed(arguments: argparse.Namespace) -> None:
    from benchmarks.refine.quality import place

    bases = BASES[:1] if arguments.only_small else BASES
    found: dict[str, dict[str, list[dict[str, Any]]]] = {base: {name: [] for name in VARIANTS} for base in bases}
    with tempfile.TemporaryDirectory() as folder:
        for base in bases:
            if base == BASES[1]:
                make_base(Path(folder) / "base")
            steps = arguments.steps if base == BASES[0] else max(5, arguments.steps // 6)
            for turn in range(arguments.repeat if base == BASES[0] else (arguments.repeat + 1) // 2):
                for variant in VARIANTS if base == BASES[0] else FEW:
                    if variant == "ours, compiled" and turn:
                        continue
                    words = [
                        sys.executable, "-m", "benchmarks.refine.speed", "--data", str(arguments.data),
                        "--variant", variant, "--base", base, "--folder", folder, "--steps", str(steps),
                    ]  # fmt: skip
                    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
                    if done.returncode:
                        failed = next(iter(done.stderr.strip().splitlines()[-1:]), "")
                        found[base][variant].append({"failed": failed[:300]})
                    else:
                        found[base][variant].append(json.loads(done.stdout.splitlines()[-1]))
                    print(base, turn, variant, found[base][variant][-1], file=sys.stderr, flush=True)
    result = {"bases": found, "threads": os.environ.get("OMP_NUM_THREADS"), "settings": SETTINGS}
    (place() / "speed.json").write_text(json.dumps(result | stamp(vars(arguments)), indent=1))


def make_base(directory: Path) -> None:
    """A Mistral of 100 million parameters with the tokenizer of the embedded base and a vocabulary of 32,000."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=32_000, hidden_size=768, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=12,
        num_key_value_heads=4, max_position_embeddings=2048, sliding_window=None,
    )  # fmt: skip
    transformers.MistralForCausalLM(config).save_pretrained(directory)
    transformers.AutoTokenizer.from_pretrained(ROOT / "adapter_bank" / "tiny" / "base").save_pretrained(directory)


def rows_of(data: Path, count: int = 512) -> list[Example]:
    """Rows of all tasks, drawn with a fixed seed: short and long ones, as in a mixed dataset."""
    tasks = [load_examples(file) for file in sorted(tasks_folder(data).glob("*.jsonl"))]
    rng = random.Random(7)
    return [rng.choice(rng.choice(tasks)) for _ in range(count)]


def worker(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from lorameta.training.measure import peak_memory, without_cache

    tiny = ROOT / "adapter_bank" / "tiny" / "base"
    base_path = str(tiny if arguments.base == BASES[0] else Path(arguments.folder) / "base")
    threads = os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(int(threads) if threads else torch.get_num_threads())
    from lorameta.base_model.batch import encode_example
    from lorameta.base_model.shape import linear_shapes
    from lorameta.training import LoraTraining, load_base
    from lorameta.training.adapted import lora_on
    from lorameta.training.prefix import in_top_layers

    variant = arguments.variant
    base = load_base(base_path, dtype="bfloat16" if variant.endswith("bfloat16") else "float32")
    rows = [encode_example(base.tokenizer, example, max_length=1024) for example in rows_of(arguments.data)]
    chosen = SETTINGS[arguments.base]
    settings = LoraTraining(rank=chosen["rank"], alpha=2 * chosen["rank"], batch_size=chosen["batch"], epochs=1)
    if "upper half" in variant:
        layers = base.model.config.num_hidden_layers
        paths = in_top_layers(base.model, sorted(linear_shapes(base.model)), layers // 2, arguments.base)
        settings = replace(settings, targets=tuple(paths))
    trainer = variant.startswith("Trainer")
    with contextlib.ExitStack() as stack:
        if not trainer and not variant.endswith("kept"):
            stack.enter_context(without_cache(base.model))
        model = stack.enter_context(lora_on(base, settings))
        peak = stack.enter_context(peak_memory())
        before = peak()
        run = with_trainer if trainer else with_ours
        seconds, cpu, tokens, losses = run(model, base, rows, settings, variant, arguments.steps)
        return {
            "tokens_per_second": round(tokens / seconds, 1),
            "tokens_per_cpu_second": round(tokens / cpu, 1),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu, 3),
            "tokens": tokens,
            "peak_memory_mb": round(peak() / 1e6),
            "memory_of_steps_mb": round((peak() - before) / 1e6),
            "loss": round(losses[0], 5),
            "threads": torch.get_num_threads(),
        }


def with_ours(
    model: Any, base: Any, rows: Any, settings: Any, variant: str, steps: int
) -> tuple[float, float, int, list[float]]:
    import torch
    from torch.nn.functional import cross_entropy

    from lorameta.base_model.batch import collate
    from lorameta.training import engine as ours
    from lorameta.training.engine import BETAS
    from lorameta.training.prefix import Prefix, frozen_layers
    from lorameta.training.rows import batches, cut, micro_batch_tokens, micro_batches

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = ours.optimizer_of(parameters, settings.rate(base.model.config.hidden_size), 0.0)
    if variant.endswith("not fused"):
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, betas=BETAS, foreach=False, fused=False)
    if variant.endswith("compiled"):
        model.get_base_model().get_decoder().compile(dynamic=True)
    most = micro_batch_tokens(base.model.num_parameters())
    lengths, pad = [len(row.ids) for row in rows], base.tokenizer.pad_token_id

    def all_logits(batch: list[int]) -> float:
        count = sum(ours.answers(rows[i]) for i in batch)
        for micro_batch in micro_batches(lengths, batch, rows=None, tokens=most):
            ids, attention, answers = collate([rows[i] for i in micro_batch], pad)
            logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1].float()
            labels = ids[:, 1:].masked_fill(~answers[:, 1:], -100)
            loss = cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="sum") / count
            loss.backward()
        return loss.item()

    order = batches(lengths, settings.batch_size, random.Random(0))
    if variant.endswith("random order"):
        mixed = random.Random(0).sample(range(len(rows)), len(rows))
        order = [mixed[i : i + settings.batch_size] for i in range(0, len(mixed), settings.batch_size)]
    whole = variant.endswith(("at once", "random order"))
    wanted = [*order, *order][: steps + 2]
    prefix = Prefix(model, frozen_layers(model)) if "states kept" in variant else None
    model.train()
    losses_of = ours.losses_of(model, pad, prefix=prefix)
    losses, tokens, begun, cpu = [], 0, 0.0, 0.0
    with nullcontext() if prefix is None else prefix.mounted():
        for batch in wanted if prefix is not None else ():
            prefix.give([rows[i] for i in batch])
        for number, batch in enumerate(wanted):
            if number == 2:  # the first two allocate, and compile
                begun, cpu, tokens = time.perf_counter(), time.process_time(), 0
            if variant.endswith("all tokens"):
                losses.append(all_logits(batch))
            else:
                size = 1 << 30 if whole else most
                losses.append(ours.backward(losses_of, cut(rows, batch, tokens=size)))
            ours.clip(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tokens += sum(lengths[i] for i in batch)
        return time.perf_counter() - begun, time.process_time() - cpu, tokens, losses


def with_trainer(
    model: Any, base: Any, rows: Any, settings: Any, variant: str, steps: int
) -> tuple[float, float, int, list[float]]:
    """As its documentation has it: labels of -100 on the prompt, rows padded to the longest of their batch."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    items = [
        {
            "input_ids": row.ids,
            "attention_mask": [1] * len(row.ids),
            "labels": [-100] * row.answer_start + row.ids[row.answer_start :],
        }
        for row in rows
    ]
    clock: list[tuple[float, float]] = []

    class Collator(DataCollatorForSeq2Seq):
        def __call__(self, features: Any, return_tensors: Any = None) -> Any:
            counts.append(sum(len(feature["input_ids"]) for feature in features))
            return super().__call__(features, return_tensors)

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.append((time.perf_counter(), time.process_time()))

    counts: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {}
        if variant.endswith("length"):
            options["train_sampling_strategy"] = "group_by_length"
        arguments = TrainingArguments(
            folder, use_cpu=True, per_device_train_batch_size=settings.batch_size, max_steps=steps + 2, report_to=[],
            save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False, seed=0,
            learning_rate=settings.rate(base.model.config.hidden_size), weight_decay=0.0, max_grad_norm=1.0,
            dataloader_pin_memory=False, **options,
        )  # fmt: skip
        collator = Collator(base.tokenizer, padding=True)
        trainer = Trainer(model, arguments, train_dataset=items, data_collator=collator, callbacks=[Watch()])
        trainer.train()
    seconds, cpu = (clock[-1][i] - clock[1][i] for i in (0, 1))
    return seconds, cpu, sum(counts[2 : steps + 2]), [trainer.state.log_history[0].get("train_loss", 0.0)]


def median(found: list[dict[str, Any]], key: str) -> float | None:
    values = [line[key] for line in found if key in line]
    return statistics.median(values) if values else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--base", choices=BASES)
    parser.add_argument("--folder")
    parser.add_argument("--steps", type=int)
    print(json.dumps(worker(parser.parse_args())))
