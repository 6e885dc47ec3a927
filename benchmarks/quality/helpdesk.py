"""The demo's comparison with every distance, and with the operators that need more than distances.

python -m benchmarks.quality.helpdesk
"""

from __future__ import annotations

import argparse
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
    adapters = {
        "base": None,
        "uniform average": made(operator="uniform"),
        "nearest adapter": made(operator="nearest"),
        "generated": made(),
        **{f"normalized {name}": made(operator="normalized", distance=name) for name in DISTANCES},
        **{name: made(operator=name) for name in ("sparse", *by_rows)},
        "fine-tuned": finetune(train, bank.base_model),
    }
    scorer = Scorer(bank.base_model, revision=bank.base_revision)
    examples = load_examples(test)
    scores = {name: scorer.score(examples, adapter).as_dict() for name, adapter in adapters.items()}
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
        print(f"{name:24s} {line['exact_match']:.3f} {line['rouge_l']:.3f} {line['loss']:.3f}")


if __name__ == "__main__":
    main()
