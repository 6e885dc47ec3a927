"""What `make demo` runs: an adapter for a dataset that no adapter was trained on, scored on its held-out part."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lorameta.cli.common import fail, peak_memory, use_plain_output
from lorameta.cli.progress import counting, waiting
from lorameta.errors import LorametaError
from lorameta.examples import path

if TYPE_CHECKING:
    from lorameta.data import Example
    from lorameta.evaluate import Scores

TRAIN = path("helpdesk_train.jsonl")
TEST = path("helpdesk_test.jsonl")
OUTPUT = Path("demo-output") / "helpdesk-adapter"
EXAMPLES = 5
SHOWN = ("base", "by distances", "generated")


def main() -> None:
    """Generate, compare, and say where everything is."""
    use_plain_output()
    from lorameta.bank import AdapterBank
    from lorameta.data import load_examples
    from lorameta.generate import generate_adapter
    from lorameta.report.mixture import aligned, compared, mixture_lines, weights_table
    from lorameta.report.scores import scores_table

    bank = AdapterBank.open()
    test = load_examples(TEST)
    print("A help desk wants its messages routed. It has labelled some of them:\n")
    print("\n".join(f"    {line}" for line in load_examples(TRAIN)[0].text.splitlines() if line))

    start = time.perf_counter()
    with waiting("generating"):
        adapter = generate_adapter(TRAIN, bank=bank)
        adapter.save_pretrained(OUTPUT)
    seconds = time.perf_counter() - start
    families = {name: record.family for name, record in bank.records.items()}
    print(f"\n1. The adapter, from {adapter.report['rows']} rows and without a gradient step")
    print(f"{compared(adapter.report, bank.name)} None of them was trained on this task.\n")
    print(weights_table(adapter.report, families))
    facts = [*mixture_lines(adapter.report), ("Time", f"{seconds:.1f} s"), ("Peak memory", f"{peak_memory()} MB")]
    print(f"\n{aligned(facts)}")

    with waiting("loading the base model"):
        from lorameta.evaluate import Scorer

        nearest = generate_adapter(TRAIN, bank=bank, operator="nearest")
        models = {
            "base": None,
            "nearest": nearest,
            "uniform": generate_adapter(TRAIN, bank=bank, operator="uniform"),
            "by distances": generate_adapter(TRAIN, bank=bank, operator="normalized"),
            "generated": adapter,
        }
        scorer = Scorer(bank.base_model, revision=bank.base_revision)
    with counting("scoring", len(test) * len(models), "rows") as progress:
        scores = {name: scorer.score(test, model, progress=progress) for name, model in models.items()}
    print(f"\n2. The answers to {len(test)} other messages, which had no part in the above\n")
    print(scores_table(scores))
    print(f"nearest: the adapter {next(iter(nearest.weights))}")
    print("by distances: no label is looked at and no model is run (--fast)")
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


def _answers(test: list[Example], scores: dict[str, Scores]) -> str:
    """A few messages, evenly spaced, with the expected answer, the base's and the adapters'."""
    from lorameta.report.table import table

    rows = [
        [_message(test[i]), test[i].output, *(scores[name].predictions[i] for name in SHOWN)]
        for i in range(0, len(test), max(1, len(test) // EXAMPLES))
    ]
    return table(["message", "expected", "base", "by distances", "generated"], rows[:EXAMPLES], align="<<<<<")


def _message(example: Example) -> str:
    """The part of a prompt that differs from row to row."""
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
