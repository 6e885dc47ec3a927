"""Step 5: put finished adapters, their scores and the summaries of their datasets together as the bank."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from tasks import BANK, SEED, WORK, bank_tasks, base_tasks, finished, in_the_bank, kept_tasks, load_rows, split_rows

from lorameta.bank import AdapterBank, AdapterRecord, BaseRecord, write_bank
from lorameta.data import load_examples
from lorameta.encoder import SentenceEncoder, Summaries, TokenEncoder, merge

#: Train rows whose sentence embeddings make the moments; the token histogram counts all train rows.
EMBEDDED_ROWS = 256


HEAD = """\
# The bank `tiny`

A small Mistral-architecture base model and LoRA adapters for it, trained by this project on public English tasks so
that lorameta runs, is tested and is measured without a network. `recipe/` remakes all of it; `bank.json` holds every
number below, the hyperparameters, the hashes and the source of every row. It is a laboratory, not an assistant.

{kept} adapters. Those of {whole} other tasks were trained as well and taken out when the bank was cut to what
tests and quick examples need. The older study, `benchmarks/results/quality.md`, is of the bank before the cut.
The scores are on test rows, which neither the training nor the choice of an epoch saw.

| adapter | family | base: exact match | adapter | base: ROUGE-L | adapter | source | licence of the rows |
|---|---|---:|---:|---:|---:|---|---|"""
TAIL = """
The base saw none of these tasks. It was trained on public text (books, dictionary entries, dialogues, reviews, ...),
on procedural prompts, and on these tasks, whose sources give nothing to the bank: {own}.

Weights and summaries are Apache-2.0 like the project. The rows are not here; they keep the licences named in the table,
some of which (CC BY-SA) ask that changed versions of the rows be shared alike.
"""


def reason_to_leave_out(task: dict, facts: dict) -> str | None:
    """Why an adapter has no place in the bank: it must beat the base on the validation rows."""
    base, adapter = facts["scores"]["validation"]["base"], facts["scores"]["validation"]["adapter"]
    metric = task["metric"]
    if adapter["loss"] >= base["loss"]:
        return f"validation loss {adapter['loss']:.3f}, base {base['loss']:.3f}"
    if adapter[metric] <= base[metric]:
        return f"validation {metric} {adapter[metric]:.3f}, base {base[metric]:.3f}"
    return None


def summarise(data: Path, task_id: str, tokens: TokenEncoder, sentences: SentenceEncoder):
    cache = WORK / "summaries" / f"{task_id}.safetensors"
    if cache.exists():
        return Summaries.load(cache)[task_id]
    examples = load_examples(split_rows(load_rows(data, task_id))["train"])
    summary = merge(tokens.encode(examples), sentences.encode(examples, seed=SEED))
    cache.parent.mkdir(exist_ok=True)
    Summaries.from_list([task_id], [summary]).save(cache)
    return summary


def not_kept(data: Path, left_out: list[dict]) -> list[str]:
    """Tasks of the whole bank of before that are neither in this one nor left out of it."""
    tasks = {task["id"] for task in bank_tasks(data)} - {task["id"] for task in kept_tasks(data)}
    return sorted(tasks - {entry["id"] for entry in left_out})


def readme(records: list[AdapterRecord], left_out: list[dict], own: list[dict], whole: int) -> str:
    lines = [HEAD.format(kept=len(records), whole=whole)]
    for record in records:
        base, adapter = record.scores["test"]["base"], record.scores["test"]["adapter"]
        lines.append(
            f"| {record.id} | {record.family} | {base['exact_match']:.2f} | {adapter['exact_match']:.2f} "
            f"| {base['rouge_l']:.2f} | {adapter['rouge_l']:.2f} | {record.source['repo']} | {record.licence} |"
        )
    if left_out:
        lines += ["", "Left out, because the adapter does not beat the base on validation rows:", ""]
        lines += [f"- {entry['id']}: {entry['reason']}" for entry in left_out]
    lines.append(TAIL.format(own=", ".join(task["id"] for task in own)))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    tasks = {task["id"]: task for task in kept_tasks(data)}
    tokens, sentences = TokenEncoder(BANK / "base"), SentenceEncoder(max_rows=EMBEDDED_ROWS)
    records, left_out, summaries = [], [], {}
    fresh = {name: facts for name, facts in finished().items() if name in tasks}
    kept = [record for name, record in in_the_bank().items() if name not in fresh]
    if kept:
        bank = AdapterBank.open(BANK)
        left_out = [record for record in kept if "reason" in record]
        records = [bank.records[record["id"]] for record in kept if "reason" not in record]
        summaries = {record.id: bank.summaries[record.id] for record in records}
    for facts in fresh.values():
        task = tasks[facts["id"]]
        if reason := reason_to_leave_out(task, facts):
            shutil.rmtree(BANK / "adapters" / task["id"], ignore_errors=True)
            left_out.append({"id": task["id"], "reason": reason})
            continue
        target = BANK / "adapters" / task["id"]
        target.mkdir(parents=True, exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(WORK / "adapters" / task["id"] / name, target / name)
        summaries[task["id"]] = summarise(data, task["id"], tokens, sentences)
        training = {k: facts[k] for k in ("settings", "steps", "best_epoch", "validation_loss", "train_seconds")}
        records.append(
            AdapterRecord(
                id=task["id"],
                task=task["id"],
                family=task["family"],
                description=task["definition"],
                source=task["source"],
                licence=task["licence"],
                rows=facts["rows"],
                training=training,
                scores=facts["scores"],
            )
        )
    records.sort(key=lambda record: record.id)
    for folder in (BANK / "adapters").iterdir():  # what is left of a bank of another base
        if folder.name not in summaries:
            shutil.rmtree(folder)
    stacked = Summaries.from_list(
        list(summaries), summaries.values(), tokenizer_hash=tokens.tokenizer_hash, sentence_model=sentences.model
    )
    write_bank(
        BANK,
        name="tiny",
        base=BaseRecord("base", tokenizer_hash=tokens.tokenizer_hash, name="lorameta-embedded-base"),
        summaries=stacked,
        records=records,
        left_out=left_out,
        encoders={"sentence": {"sha256": sentences.sha256, "rows_at_most": EMBEDDED_ROWS}},
        recipe={
            "seed": SEED,
            "base_tasks": [task["id"] for task in base_tasks(data)],
            "tasks_not_kept": not_kept(data, left_out),
            "tasks_not_trained_yet": sorted(set(tasks) - summaries.keys() - {e["id"] for e in left_out}),
        },
    )
    text = readme(records, left_out, base_tasks(data), len(not_kept(data, left_out)))
    (BANK / "README.md").write_text(text, encoding="utf-8")
    print(f"{len(records)} adapters in the bank, {len(left_out)} left out")


if __name__ == "__main__":
    main()
