"""Step 3: measure the base on what it never saw: loss, listed labels, exact match on choosing, copying and changing."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import prompts
from tasks import BANK, SEED, WORK, bank_tasks, base_hash, base_tasks, load_corpus, load_rows, split_rows

from benchmarks.common import stamp
from lorameta.data import Example, load_examples
from lorameta.evaluate import Scorer

PROMPTS_AN_OPERATION = 60
ROWS_A_TASK = 40


def rounded_mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4)


def measure(data: Path, base: Path) -> dict:
    scorer = Scorer(base, batch_size=64)
    # A seed of its own: neither the training nor the validation prompts of the pre-training.
    material = prompts.Material(load_corpus(data), random.Random(SEED + 3))
    operations = {}
    for operation in prompts.OPERATIONS:
        pairs = [prompts.draw(operation, material)[0] for _ in range(PROMPTS_AN_OPERATION)]
        operations[operation.__name__] = scorer.score([Example(p, (a,)) for p, a in pairs]).as_dict()
    result = stamp({"data": data}) | {
        "base_sha256": base_hash(),
        "skills_exact_match": {
            skill: rounded_mean([operations[op.__name__]["exact_match"] for op in members])
            for skill, members in prompts.SKILLS.items()
        },
        "operations": operations,
    }
    for name, tasks, part in (("own_tasks", base_tasks(data), "test"), ("bank_tasks", bank_tasks(data), "validation")):
        scores, listed = {}, {}
        for task in tasks:
            examples = load_examples(split_rows(load_rows(data, task["id"]))[part][:ROWS_A_TASK])
            found = scorer.score(examples)
            scores[task["id"]] = found.as_dict()
            if task["n_labels"]:
                labels = {str(row["output"]) for row in load_rows(data, task["id"])}
                listed[task["id"]] = sum(p in labels for p in found.predictions) / len(examples)
        result[name] = {
            "part": part,
            "tasks": len(tasks),
            "exact_match": rounded_mean([s["exact_match"] for s in scores.values()]),
            "rouge_l": rounded_mean([s["rouge_l"] for s in scores.values()]),
            "loss": rounded_mean([s["loss"] for s in scores.values()]),
            "label_tasks": len(listed),
            "answers_that_are_a_label": rounded_mean(list(listed.values())),
            "by_task": scores,
        }
    log = WORK / "pretrain.jsonl"
    if log.exists():
        held = [json.loads(line) for line in log.open() if "text_held" in line]
        result["pretraining"] = held[-1] | {
            "held_out_curve": [[h["step"], h["text_held"], h["own_held"]] for h in held]
        }
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=BANK / "base")
    parser.add_argument("--out", type=Path, default=BANK.parent.parent / "benchmarks" / "results" / "base.json")
    parser.add_argument("--again", action="store_true", help="even if this base was measured")
    arguments = parser.parse_args()
    measured = json.loads(arguments.out.read_text())["base_sha256"] if arguments.out.exists() else None
    if measured == base_hash() and not arguments.again:
        print(f"{arguments.out} is of this base; --again measures it anew")
        raise SystemExit(0)
    result = measure(arguments.data, arguments.base)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k == "skills_exact_match"}, indent=1))
    for name in ("own_tasks", "bank_tasks"):
        print(name, {k: v for k, v in result[name].items() if k != "by_task"})
