"""What `make demo` runs: an adapter for a dataset that no adapter was trained on, scored on its held-out part."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lorameta import __version__
from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank
from lorameta.base_model.load import base_fingerprint
from lorameta.cli.common import fail, peak_memory, use_plain_output
from lorameta.cli.progress import counting, waiting
from lorameta.data import Example, load_examples
from lorameta.errors import LorametaError
from lorameta.evaluate import Scorer, Scores
from lorameta.examples import path
from lorameta.files.atomic import sha256_file, write_file
from lorameta.generate import generate_adapter
from lorameta.report.mixture import aligned, compared, mixture_lines, weights_table
from lorameta.report.scores import scores_table
from lorameta.report.table import table
from lorameta.training import finetune
from lorameta.training.options import settings_of

TRAIN = path("helpdesk_train.jsonl")
TEST = path("helpdesk_test.jsonl")
OUTPUT = Path("demo-output") / "helpdesk-adapter"
FINETUNED = Path("demo-output") / "helpdesk-finetuned"
#: Scores of all models but the generated one, which is made in each run.
SCORED = Path("demo-output") / "scores.json"
#: Seconds that generating may plan for: less than the default, and enough for every stage.
BUDGET = 50.0
#: Settings of the fine-tune beside the defaults of `lorameta finetune`.
SETTINGS: dict[str, Any] = {}
#: Tokens that an answer may have beyond the longest label.
MARGIN = 4
EXAMPLES = 5
MODELS = ("base", "nearest", "by distances", "generated", "fine-tuned")
SHOWN = ("base", "generated", "fine-tuned")


def main() -> None:
    """Generate, fine-tune for comparison, score, and say where everything is."""
    use_plain_output()
    bank = AdapterBank.open().keeping()
    test = load_examples(TEST)
    print("A help desk wants its messages routed. It has labelled some of them:\n")
    print("\n".join(f"    {line}" for line in load_examples(TRAIN)[0].text.splitlines() if line))

    with waiting("generating"), _clock() as generating:
        adapter = generate_adapter(TRAIN, bank=bank, budget=BUDGET)
        adapter.save_pretrained(OUTPUT)
    families = {name: record.family for name, record in bank.records.items()}
    print(f"\n1. The adapter, from {adapter.report['rows']} rows and without a gradient step")
    print(f"{compared(adapter.report, bank.name)} None of them was trained on this task.\n")
    print(weights_table(adapter.report, families))
    took = [("Time", f"{generating.seconds:.1f} s"), ("Peak memory", f"{peak_memory()} MB")]
    print(f"\n{aligned([*mixture_lines(adapter.report), *took])}", flush=True)

    trained, training, before = finetuned(bank)
    wanted = {"version": __version__, "bank": bank.content_hash, "rows": [sha256_file(TRAIN), sha256_file(TEST)]}
    said = noted(SCORED, wanted).get("scores", {}) if before else {}
    scores = {name: Scores(**one) for name, one in said.items()}
    with waiting("loading the base model"):
        nearest = generate_adapter(TRAIN, bank=bank, operator="nearest")
        models: dict[str, Adapter | None] = {"base": None, "nearest": nearest, "generated": adapter}
        models |= {"by distances": generate_adapter(TRAIN, bank=bank, operator="normalized"), "fine-tuned": trained}
        models = {name: models[name] for name in MODELS if name not in scores}
        scorer = Scorer(bank.base_model, revision=bank.base_revision)
        answers = scorer.tokenizer([example.output for example in test], add_special_tokens=False)["input_ids"]
        scorer.max_new_tokens = max(map(len, answers)) + MARGIN
    with counting("scoring", len(test) * len(models), "rows") as progress:
        scores |= {name: scorer.score(test, model, progress=progress) for name, model in models.items()}
    scores = {name: scores[name] for name in MODELS}
    note(SCORED, wanted, scores={name: asdict(one) for name, one in scores.items() if name != "generated"})
    print(f"\n2. The answers to {len(test)} other messages, which had no part in the above\n")
    print(scores_table(scores))
    print(f"nearest: the adapter {next(iter(nearest.weights))} of the bank")
    print("by distances: no label is looked at and no model is run (--fast)")
    print("fine-tuned: a LoRA adapter trained from scratch on the same rows (lorameta finetune)")
    if len(models) == 1:
        print("All but generated were scored by an earlier run.")
    kept = ", when an earlier run trained it" if before else ""
    print(f"\nCPU time: {generating.cpu:.0f} s for generated, {training:.0f} s for fine-tuned{kept}.")
    print(f"\n3. Some of them\n\n{_answers(test, scores)}")
    print(
        f"""
The adapter is in ./{OUTPUT.as_posix()}: a PEFT directory that loads without lorameta. What to type next:

    . .venv/bin/activate
    lorameta explain {_relative(TRAIN)}
    lorameta evaluate {_relative(TEST)} --adapter {OUTPUT.as_posix()} --baselines
    lorameta refine {OUTPUT.as_posix()} --data {_relative(TRAIN)} -o refined --minutes 1
    lorameta generate YOUR-ROWS.jsonl -o my-adapter      rows like {{"input": "...", "output": "..."}}"""
    )


@contextmanager
def _clock() -> Iterator[SimpleNamespace]:
    """Wall and CPU seconds of the body, all threads together."""
    found = SimpleNamespace(seconds=0.0, cpu=0.0)
    wall, cpu = time.perf_counter(), time.process_time()
    yield found
    found.seconds, found.cpu = time.perf_counter() - wall, time.process_time() - cpu


def finetuned(bank: AdapterBank) -> tuple[Adapter, float, bool]:
    """Train on the same rows, or take what an earlier run trained; with its CPU seconds, and whether it was there."""
    beside = FINETUNED.with_suffix(".json")
    wanted = {
        "rows": sha256_file(TRAIN),
        "base": f"{bank.base_model} {base_fingerprint(bank.base_model, bank.base_revision)}",
        "settings": settings_of(SETTINGS).as_dict(),
    }
    with suppress(ValueError, TypeError, KeyError, LorametaError):  # not there, or not whole: it is trained
        return Adapter.from_pretrained(FINETUNED), float(noted(beside, wanted)["cpu_seconds"]), True
    print(
        "\nTo compare, a LoRA adapter is trained on the same rows: some minutes, in the first run only ...", flush=True
    )
    with waiting("fine-tuning"), _clock() as training:
        adapter = finetune(TRAIN, bank.base_model, revision=bank.base_revision, settings=SETTINGS)
        adapter.save_pretrained(FINETUNED)
    note(beside, wanted, cpu_seconds=round(training.cpu, 1))
    return adapter, training.cpu, False


def noted(file: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what an earlier run noted of the same things; nothing if it did not, or the file is not whole."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return dict(said) if said["of"] == json.loads(json.dumps(wanted)) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def note(file: Path, wanted: dict[str, Any], **facts: Any) -> None:
    """Write down what a later run need not make again."""
    write_file(file, json.dumps({"of": wanted, **facts}, indent=1).encode())


def _answers(test: list[Example], scores: dict[str, Scores]) -> str:
    """Return a few messages, evenly spaced, with the expected answer and those of some models."""
    rows = [
        [_message(test[i]), test[i].output, *(scores[name].predictions[i] for name in SHOWN)]
        for i in range(0, len(test), max(1, len(test) // EXAMPLES))
    ]
    return table(["message", "expected", *SHOWN], rows[:EXAMPLES], align="<<" + "<" * len(SHOWN))


def _message(example: Example) -> str:
    """Return the part of a prompt that differs from row to row."""
    return example.input.split("Input:")[-1].split("Output:")[0].strip()


def _relative(file: Path) -> str:
    """`file` from the working directory if it is below it."""
    try:
        return file.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(file)


if __name__ == "__main__":
    try:
        main()
    except LorametaError as error:
        sys.exit(fail(error))
