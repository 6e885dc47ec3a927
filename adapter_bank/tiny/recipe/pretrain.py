"""Step 2: pre-train the base on text and prompts. Resumable; the same command continues after a stop.

Half of the windows are text (the loss is on every token), half are packed prompts (the loss is on the answers alone):
procedural ones and the base's own tasks. Matrices are trained by Muon, embeddings and norms by AdamW.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import prompts
import torch
from tasks import BANK, SEED, WORK, bank_tasks, base_tasks, load_corpus, load_rows, prompt_text, row_split, shingles
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, GenerationConfig, MistralConfig, MistralForCausalLM

WINDOW = 256
STEPS = 1550
BATCH = 40  # windows a step, half of them text
DATA = WORK / "pretrain_data.npz"
CHECKPOINT = WORK / "pretrain.pt"
ARCHITECTURE = dict(
    vocab_size=6000,
    hidden_size=256,
    intermediate_size=704,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=1024,
    rope_theta=10000.0,
    rms_norm_eps=1e-5,
    sliding_window=None,
    tie_word_embeddings=True,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)


def leak_filter(data: Path) -> set[int]:
    """Hashes of the word runs of every bank text (eight words, or the whole of a shorter text of five or more)."""
    return set().union(
        *(shingles(prompt_text(row["input"])) for task in bank_tasks(data) for row in load_rows(data, task["id"]))
    )


def clean_corpus(data: Path, leaked: set[int]) -> tuple[dict[str, list[str]], dict]:
    """The corpus without the lines that share text with the bank's tasks; windows and procedural prompts draw on it."""
    corpus: dict[str, list[str]] = {}
    dropped = seen = 0
    for name, documents in load_corpus(data).items():
        corpus[name] = []
        for document in documents:
            lines = document.split("\n")
            kept = [line for line in lines if not (shingles(line) & leaked)]
            seen, dropped = seen + len(lines), dropped + len(lines) - len(kept)
            if kept:
                corpus[name].append("\n".join(kept))
    return corpus, {"lines": seen, "lines_dropped": dropped}


def text_windows(corpus: dict[str, list[str]], tokenizer, rng: random.Random) -> np.ndarray:
    documents = [document for documents in corpus.values() for document in documents]
    rng.shuffle(documents)
    stream: list[int] = []
    for start in range(0, len(documents), 1000):
        for ids in tokenizer(documents[start : start + 1000], add_special_tokens=False)["input_ids"]:
            stream += [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    windows = np.array(stream[: len(stream) // WINDOW * WINDOW], dtype=np.uint16).reshape(-1, WINDOW)
    return windows[rng.sample(range(len(windows)), len(windows))]


def encode(tokenizer, pairs: list[tuple[str, str]]) -> tuple[list[int], list[int]]:
    """Ids of `<s> prompt answer </s>` (or several shots of it) and a mask that is 1 on the answers and their end."""
    ids, mask = [tokenizer.bos_token_id], [0]
    for prompt, answer in pairs:
        for text, flag in ((prompt, 0), (f" {answer}", 1)):
            piece = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids, mask = ids + piece, mask + [flag] * len(piece)
    return [*ids, tokenizer.eos_token_id], [*mask, 1]


def pack(examples: list[tuple[list[int], list[int]]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """First-fit packing of whole prompts into windows; nothing is cut."""
    open_windows: list[tuple[list[int], list[int]]] = []
    done: list[tuple[list[int], list[int]]] = []
    for ids, mask in examples:
        if len(ids) > WINDOW:
            continue
        for window in open_windows:
            if len(window[0]) + len(ids) <= WINDOW:
                window[0].extend(ids)
                window[1].extend(mask)
                break
        else:
            open_windows.append((list(ids), list(mask)))
        if len(open_windows) > 32:
            open_windows.sort(key=lambda w: len(w[0]))
            done.append(open_windows.pop())
    done += open_windows
    tokens = np.full((len(done), WINDOW), pad, dtype=np.uint16)
    masks = np.zeros((len(done), WINDOW), dtype=bool)
    for row, (ids, mask) in enumerate(done):
        tokens[row, : len(ids)], masks[row, : len(mask)] = ids, mask
    return tokens, masks


def own_tasks(data: Path, leaked: set[int]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The rows of the base's own tasks, without those that share text with the bank: (training, held out)."""
    training, held_out = [], []
    for task in base_tasks(data):
        for row in load_rows(data, task["id"]):
            if shingles(prompt_text(row["input"])) & leaked:
                continue
            (held_out if row_split(row) == "test" else training).append((row["input"], str(row["output"])))
    return training, held_out


def prepare(data: Path, tokenizer, prompt_windows: int) -> dict[str, np.ndarray]:
    if DATA.exists():
        return dict(np.load(DATA))
    rng = random.Random(SEED)
    leaked = leak_filter(data)
    corpus, facts = clean_corpus(data, leaked)
    text = text_windows(corpus, tokenizer, rng)
    training, held_out = own_tasks(data, leaked)
    stream = prompts.stream(prompts.Material(corpus, random.Random(SEED + 1)))
    procedural = [encode(tokenizer, next(stream)) for _ in range(int(prompt_windows * 3.2))]
    own = [encode(tokenizer, [row]) for row in training]
    repeated = [example for _ in range(4) for example in rng.sample(own, len(own))]
    examples = procedural + repeated
    rng.shuffle(examples)
    tokens, masks = pack(examples, tokenizer.pad_token_id)
    order = np.random.default_rng(SEED).permutation(len(tokens))
    held_stream = prompts.stream(prompts.Material(corpus, random.Random(SEED + 2)))
    held = [encode(tokenizer, next(held_stream)) for _ in range(400)]
    held_tokens, held_masks = pack(held, tokenizer.pad_token_id)
    own_tokens, own_masks = pack(
        [encode(tokenizer, [row]) for row in rng.sample(held_out, 400)], tokenizer.pad_token_id
    )
    arrays = dict(
        text=text[128:],
        text_held=text[:128],
        prompts=tokens[order],
        masks=masks[order],
        procedural_held=held_tokens,
        procedural_masks=held_masks,
        own_held=own_tokens,
        own_masks=own_masks,
    )
    WORK.mkdir(parents=True, exist_ok=True)
    np.savez(DATA, **arrays)
    facts |= {
        "text_tokens": int(text.size),
        "prompt_windows": len(tokens),
        "prompts": len(examples),
        "own_rows": len(training),
    }
    (WORK / "pretrain_data.json").write_text(json.dumps(facts, indent=1))
    print(facts, flush=True)
    return arrays


def answer_loss(decoder, head, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean loss over the targets (`mask` true; all when None); logits are formed for those positions only."""
    hidden = decoder(input_ids=tokens).last_hidden_state[:, :-1]
    targets = tokens[:, 1:]
    if mask is not None:
        hidden, targets = hidden[mask[:, 1:]], targets[mask[:, 1:]]
    return cross_entropy(head(hidden).float().flatten(0, -2), targets.flatten())


def rate(step: int, steps: int) -> float:
    """Warm-up, plateau, and a linear fall over the last 45 %: the plateau lets a run be lengthened."""
    return min(1.0, (step + 1) / 60, max(0.02, (steps - step) / (0.45 * steps)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH, help="windows of 256 tokens a step, half of them text")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stop-after", type=int, help="stop after this many steps of this run, for timing")
    parser.add_argument("--again", action="store_true", help="even if there is a base")
    arguments = parser.parse_args()
    if (BANK / "base" / "model.safetensors").exists() and not arguments.again:
        print("there is a base; --again trains a new one")
        return
    if not CHECKPOINT.exists():  # a new run: what an older one prepared may be of other rows or prompts
        DATA.unlink(missing_ok=True)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    device = arguments.device
    tokenizer = AutoTokenizer.from_pretrained(BANK / "base")
    half = arguments.batch // 2
    arrays = prepare(arguments.data, tokenizer, arguments.steps * half)

    model = MistralForCausalLM(MistralConfig(**ARCHITECTURE)).to(device)
    print(
        f"{model.num_parameters() / 1e6:.2f} M parameters, windows:",
        {k: len(arrays[k]) for k in ("text", "prompts")},
        flush=True,
    )
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=arguments.rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    log = WORK / "pretrain.jsonl"
    step = 0
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]
        print(f"resumed at step {step}", flush=True)

    decoder = torch.compile(model.model)
    autocast = torch.autocast(device, torch.bfloat16)
    stop = False

    def ask_to_stop(*_) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)

    def save() -> None:
        part = CHECKPOINT.with_suffix(".part")
        torch.save(
            {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step}, part
        )
        part.replace(CHECKPOINT)

    def window(name: str, start: int) -> torch.Tensor:
        rows = np.arange(start, start + half) % len(arrays[name])
        array = arrays[name][rows]
        return torch.from_numpy(array if array.dtype == bool else array.astype(np.int64)).to(device)

    @torch.no_grad()
    def held_out() -> dict[str, float]:
        losses = {}
        for name, mask_name in (
            ("text_held", None),
            ("procedural_held", "procedural_masks"),
            ("own_held", "own_masks"),
        ):
            found = []
            for start in range(0, len(arrays[name]) // half * half, half):
                mask = window(mask_name, start) if mask_name else None
                with autocast:
                    found.append(answer_loss(decoder, model.lm_head, window(name, start), mask).item())
            losses[name] = round(float(np.mean(found)), 4)
        return losses

    begun, saved_at, first = time.time(), time.time(), step
    while step < arguments.steps and not stop:
        factor = rate(step, arguments.steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = arguments.rate * factor
        with autocast:
            text = answer_loss(decoder, model.lm_head, window("text", step * half), None)
            answers = answer_loss(decoder, model.lm_head, window("prompts", step * half), window("masks", step * half))
        (text + answers).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 10 == 0:
            elapsed = time.time() - begun
            record = {
                "step": step,
                "text": round(text.item(), 3),
                "answers": round(answers.item(), 3),
                "rate": round(factor, 3),
                "tokens_per_s": round((step - first) * arguments.batch * WINDOW / elapsed),
                "s": round(elapsed),
            }
            if step % 150 == 0 or step == arguments.steps:
                record |= held_out()
            print(json.dumps(record), flush=True)
            with log.open("a") as file:
                file.write(json.dumps(record) + "\n")
        if time.time() - saved_at > 240:
            save()
            saved_at = time.time()
        if arguments.stop_after and step - first >= arguments.stop_after:
            return
    save()
    if step >= arguments.steps:
        model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0, do_sample=False)
        model.to(torch.bfloat16).save_pretrained(BANK / "base")
        CHECKPOINT.unlink()
        print(f"saved {BANK / 'base'}", flush=True)


if __name__ == "__main__":
    main()
