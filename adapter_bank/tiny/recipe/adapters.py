"""Step 4: one LoRA adapter a task, trained by gradient descent with the loss on the answers only.

Every adapter starts from the same A (the seed is set before PEFT initialises it) and has the same rank and targets.
Resumable: a task in the bank, or with finished facts in the work folder, is skipped. `--trial` trains without touching
the bank and prints validation losses, for choosing the hyperparameters.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from tasks import BANK, SEED, WORK, base_hash, finished, in_the_bank, kept_tasks, load_rows, split_rows


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of every adapter of the bank; README.md says what else was tried."""

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    learning_rate: float = 6e-3
    epochs: int = 4
    batch_size: int = 16
    dropout: float = 0.0
    seed: int = SEED


def by_family(tasks: list[dict]) -> list[dict]:
    """Round-robin over the families, so that any first part of the list is spread over all of them."""
    rank: dict[str, int] = {}
    keyed = []
    for task in tasks:
        rank[task["family"]] = rank.get(task["family"], -1) + 1
        keyed.append((rank[task["family"]], task["family"], task))
    return [task for _, _, task in sorted(keyed, key=lambda item: item[:2])]


def train_one(data: Path, task: dict, settings: Settings, base: Path, threads: int, score: bool) -> dict:
    """Train one adapter; keep the epoch with the lowest validation loss; score base and adapter on the test rows."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lorameta.base_model.batch import answer_losses, by_length, collate, encode_example
    from lorameta.data import load_examples

    torch.set_num_threads(threads)
    begun = time.time()
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(settings.seed)  # the same A for every adapter
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets),
        lora_dropout=settings.dropout,
    )
    model = get_peft_model(model, config)
    parts = {name: load_examples(rows) for name, rows in split_rows(load_rows(data, task["id"])).items()}
    encoded = {name: [encode_example(tokenizer, e) for e in parts[name]] for name in ("train", "validation")}
    pad = tokenizer.pad_token_id

    @torch.no_grad()
    def validation_loss() -> float:
        model.eval()
        rows = encoded["validation"]
        losses = [
            answer_losses(model, *collate([rows[i] for i in batch], pad))
            for batch in by_length([len(e.ids) for e in rows], 64)
        ]
        model.train()
        return torch.cat(losses).mean().item()

    train, rng = encoded["train"], random.Random(settings.seed)
    steps = settings.epochs * math.ceil(len(train) / settings.batch_size)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0, betas=(0.9, 0.98))
    warm_up = min(20, steps // 10)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min(1.0, (s + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, s / steps))),
    )
    history = [validation_loss()]
    best = (history[0], 0, {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
    for epoch in range(1, settings.epochs + 1):
        # Batches of similar length in random order: shuffle, sort within pools of eight batches, shuffle the batches.
        order = rng.sample(range(len(train)), len(train))
        pool = settings.batch_size * 8
        order = [
            i for p in range(0, len(order), pool) for i in sorted(order[p : p + pool], key=lambda i: len(train[i].ids))
        ]
        batches = [order[s : s + settings.batch_size] for s in range(0, len(order), settings.batch_size)]
        rng.shuffle(batches)
        for batch in batches:
            loss = answer_losses(model, *collate([train[i] for i in batch], pad)).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
        history.append(validation_loss())
        if history[-1] < best[0]:
            best = (history[-1], epoch, {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
    facts = {
        "id": task["id"],
        "base_sha256": base_hash(),
        "settings": asdict(settings) | {"targets": list(settings.targets)},
        "steps": steps,
        "best_epoch": best[1],
        "validation_loss": [round(value, 4) for value in history],
        "train_seconds": round(time.time() - begun, 1),
        "rows": {name: len(rows) for name, rows in parts.items()},
    }
    if not score:
        return facts
    from lorameta.evaluate import Scorer

    model.load_state_dict(best[2], strict=False)
    model.to(torch.bfloat16)
    model.peft_config["default"].base_model_name_or_path = "lorameta-embedded-base"
    folder = WORK / "adapters" / task["id"]
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    scorer = Scorer(base, batch_size=64)
    facts["scores"] = {
        part: {
            "base": scorer.score(parts[part]).as_dict(),
            "adapter": scorer.score(parts[part], folder).as_dict(),
        }
        for part in ("validation", "test")
    }
    facts["seconds"] = round(time.time() - begun, 1)
    (WORK / "adapters" / f"{task['id']}.json").write_text(json.dumps(facts, indent=1))
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=BANK / "base")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="threads a worker")
    parser.add_argument("--tasks", nargs="*", help="only these, of the bank's")
    parser.add_argument("--trial", action="store_true")
    for name, value in asdict(Settings()).items():
        kind = dict(nargs="*", type=str) if isinstance(value, tuple) else dict(type=type(value))
        parser.add_argument(f"--{name.replace('_', '-')}", default=value, **kind)
    arguments = parser.parse_args()
    chosen = {name: getattr(arguments, name) for name in asdict(Settings())}
    settings = replace(Settings(), **chosen | {"targets": tuple(chosen["targets"])})
    tasks = [t for t in by_family(kept_tasks(arguments.data)) if not arguments.tasks or t["id"] in arguments.tasks]
    (WORK / "adapters").mkdir(parents=True, exist_ok=True)
    if not arguments.trial:
        done = in_the_bank()
        done |= finished()
        tasks = [task for task in tasks if task["id"] not in done]
    begun = time.time()
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(
                train_one, arguments.data, task, settings, arguments.base, arguments.threads, not arguments.trial
            )
            for task in tasks
        ]
        losses = []
        for done, job in enumerate(as_completed(jobs), start=1):
            facts = job.result()
            losses.append(min(facts["validation_loss"]))
            line = {"done": f"{done}/{len(tasks)}", "s": round(time.time() - begun), "id": facts["id"]}
            line |= {"train_s": facts["train_seconds"], "validation_loss": facts["validation_loss"]}
            if "scores" in facts:
                test = facts["scores"]["test"]
                line |= {
                    "exact_match": [test[k]["exact_match"] for k in test],
                    "rouge_l": [test[k]["rouge_l"] for k in test],
                }
            print(json.dumps(line), flush=True)
    print(f"mean of the best validation losses {sum(losses) / max(1, len(losses)):.4f}", settings, file=sys.stderr)


if __name__ == "__main__":
    main()
