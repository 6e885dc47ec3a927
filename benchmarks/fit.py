"""What a fit of the base's end does without any bank: the baseline that every bank has to beat.

One pass over the labelled rows of a task; the last block, the head at several ranks and both are fitted to the same
states and scored on the same test rows. ``python -m benchmarks.fit --base DIRECTORY --tasks DIRECTORY``
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.base_model.batch import encode_example
from lorameta.base_model.load import Base, load_base
from lorameta.data import Example, load_examples
from lorameta.training.fit import decide
from lorameta.training.fit.block import BlockFit
from lorameta.training.fit.head import HeadFit
from lorameta.training.fit.solver import predict
from lorameta.training.fit.states import AnswerStates, Readout, collect, find_readout

TASKS = ("noun_plural", "hwu_scenario", "verb_past_tense", "movie_polarity", "clinc_domain", "booking_date")
FORMS: dict[str, tuple[tuple[str, ...], int | None]] = {
    "head, rank 8": (("head",), 8),
    "head, rank 16": (("head",), 16),
    "head, rank 32": (("head",), 32),
    "head, full": (("head",), 10_000),
    "block, rank 32": (("block",), None),
    "both, rank 32": (("both",), None),
}
RESULT = Path(__file__).parent / "results" / "fit.json"


def measure(base: Base, examples: list[Example], rows: int, test: int) -> dict[str, Any]:
    """All forms on one task."""
    encoded = [encode_example(base.tokenizer, example) for example in [*examples[:rows], *examples[-test:]]]
    readout = find_readout(base.model, encoded[0])
    started = time.process_time()
    passed = collect(base.model, readout, {}, encoded, pad=base.tokenizer.pad_token_id)
    seconds = time.process_time() - started
    unseen = passed.states.of_rows(np.arange(rows, rows + test))
    known = known_alone(passed.states.of_rows(np.arange(rows)))
    passed = replace(passed, states=known, used=np.arange(rows))
    before = predict(unseen)
    found: dict[str, Any] = {
        "pass_cpu_seconds": round(seconds, 2),
        "tokens_of_pass": passed.tokens,
        "base": {"exact_match": before.exact_match(), "loss": round(before.mean_loss(), 4)},
    }
    for name, (forms, rank) in FORMS.items():
        started = time.process_time()
        update, report = decide(passed, examples[:rows], readout, {}, forms, rank, 0.25, None, 0.0, 0)
        seconds = time.process_time() - started
        after = unseen
        for part in report["rank"] if update else ():
            pair = update[readout.head_name if part == "head" else readout.down_name]
            after = fit_of(part, after, readout).applied(after, pair.A, pair.B)
        scores = predict(after)
        found[name] = {
            "exact_match": scores.exact_match(),
            "loss": round(scores.mean_loss(), 4),
            "held_out": {key: report[key] for key in ("before", "after", "where", "rank", "penalty", "kept")},
            "solve_cpu_seconds": round(seconds, 2),
        }
        print(f"  {name:14} {scores.exact_match():.2f} {scores.mean_loss():.3f} {seconds:.1f} s", flush=True)
    return found


def known_alone(states: AnswerStates) -> AnswerStates:
    """The states with the tokens of their own answers alone: those of the test rows are among the rest."""
    kept = np.unique(states.gold)
    others = np.delete(states.logits, kept, axis=1)
    rest = np.logaddexp.reduce(np.concatenate([others, states.rest[:, None]], axis=1), axis=1)
    most = np.concatenate([others, states.rest_max[:, None]], axis=1).max(axis=1)
    return replace(
        states, gold=np.searchsorted(kept, states.gold), vocabulary=states.vocabulary[kept],
        logits=states.logits[:, kept], rest=rest, rest_max=most,
    )  # fmt: skip


def fit_of(part: str, states: AnswerStates, readout: Readout) -> HeadFit | BlockFit:
    """What applies an update to states; nothing is fitted."""
    if part == "head":
        return HeadFit(states, readout.scale, readout.head.weight.shape[0])
    return BlockFit(states, readout, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--tasks", type=Path, required=True, help="A directory of task files.")
    parser.add_argument("--only", nargs="*", default=TASKS)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--test", type=int, default=32)
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    base = load_base(given.base)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    command = f"python -m benchmarks.fit --tasks TASKS --only {' '.join(given.only)}"
    result: dict[str, Any] = {
        "command": f"{command} --rows {given.rows} --test {given.test}",
        "commit": commit,
        "python": platform.python_version(),
        "rows": given.rows,
        "test_rows": given.test,
        "tasks": {},
    }
    for task in given.only:
        print(task, flush=True)
        result["tasks"][task] = measure(base, load_examples(given.tasks / f"{task}.jsonl"), given.rows, given.test)
        forms = ["base", *FORMS]
        result["mean"] = {
            form: {
                key: round(float(np.mean([scores[form][key] for scores in result["tasks"].values()])), 4)
                for key in ("exact_match", "loss")
            }
            for form in forms
        }
        given.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["mean"], indent=1), file=sys.stderr)


if __name__ == "__main__":
    main()
