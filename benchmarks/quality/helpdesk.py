"""The demo's comparison with every distance, and with the operators that need more than distances.

python -m benchmarks.quality.helpdesk
"""

from __future__ import annotations

from benchmarks.common import ROOT, stamp, write
from lorameta.bank import AdapterBank
from lorameta.data import load_examples
from lorameta.distance import DISTANCES
from lorameta.evaluate import Scorer
from lorameta.generate import DISTANCE, generate_adapter

EXAMPLES = ROOT / "lorameta" / "examples"


def main() -> None:
    bank = AdapterBank.open("embedded")
    train, test = (EXAMPLES / f"helpdesk_{part}.jsonl" for part in ("train", "test"))
    others = [name for name in DISTANCES if name != DISTANCE]
    adapters = {
        "base": None,
        "uniform average": generate_adapter(train, operator="uniform"),
        "nearest adapter": generate_adapter(train, operator="nearest"),
        "generated": generate_adapter(train),
        **{f"generated, {name}": generate_adapter(train, distance=name) for name in others},
        **{f"generated, {name}": generate_adapter(train, operator=name) for name in ("sparse", "trial", "search")},
    }
    scorer = Scorer(bank.base_model)
    examples = load_examples(test)
    scores = {name: scorer.score(examples, adapter).as_dict() for name, adapter in adapters.items()}
    report = adapters["generated"].report
    result = stamp() | {
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
