"""The demo's comparison with every distance, and with the operators that need more than distances.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.helpdesk

CPU seconds are those of making the adapter, in a process that has imported the libraries: with one thread none of them
is spent waiting for another.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

from benchmarks.common import ROOT, stamp, write
from lorameta.bank import AdapterBank
from lorameta.data import load_examples
from lorameta.distance import DISTANCES
from lorameta.evaluate import Scorer
from lorameta.generate import generate_adapter
from lorameta.operator import OPERATORS
from lorameta.training import finetune

EXAMPLES = ROOT / "lorameta" / "examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", default="smollm2")
    bank = AdapterBank.open(parser.parse_args().bank)
    train, test = (EXAMPLES / f"helpdesk_{part}.jsonl" for part in ("train", "test"))
    made = partial(generate_adapter, train, bank=bank)
    by_rows = [name for name, operator in OPERATORS.items() if "rows" in operator.needs and name != "auto"]
    ways = {
        "uniform average": partial(made, operator="uniform"),
        "nearest adapter": partial(made, operator="nearest"),
        "generated": made,
        **{f"normalized {name}": partial(made, operator="normalized", distance=name) for name in DISTANCES},
        **{name: partial(made, operator=name) for name in ("sparse", *by_rows)},
        "fine-tuned": partial(finetune, train, bank.base_model),
    }
    made(operator="trial")  # imports are nobody's cost
    adapters, seconds = {"base": None}, {"base": 0.0}
    for name, way in ways.items():
        begun = time.process_time()
        adapters[name] = way()
        seconds[name] = round(time.process_time() - begun, 1)
    scorer = Scorer(bank.base_model, revision=bank.base_revision)
    examples = load_examples(test)
    scores = {
        name: scorer.score(examples, adapter).as_dict() | {"cpu_seconds": seconds[name]}
        for name, adapter in adapters.items()
    }
    report = adapters["generated"].report
    result = stamp() | {
        "bank": bank.name,
        "rows": {"train": report["rows"], "test": len(examples)},
        "scores": scores,
        "weights": {name: round(weight, 4) for name, weight in list(report["weights"].items())[:10]},
        "effective_number": report["effective_number"],
        "nearest": report["nearest"],
    }
    write("helpdesk", result)
    for name, line in scores.items():
        print(f"{name:24s} {line['exact_match']:.3f} {line['rouge_l']:.3f} {line['loss']:.3f} {seconds[name]:6.1f}")


if __name__ == "__main__":
    main()
