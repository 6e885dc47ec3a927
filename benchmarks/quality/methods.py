"""The ways of getting an adapter that the study compares: a method is a function from a case to what it made.

Add a method by writing such a function under ``@method(NAME, GROUP)``; ``python -m benchmarks.quality --methods NAME``
runs it alone and keeps what was measured before.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.common import ROOT
from benchmarks.quality.case import LABELLED, Case, Made, seed_of, without_fold
from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.bank import AdapterBank
from lorameta.combiner import combine
from lorameta.data import Example, join_prompt
from lorameta.distance import DISTANCES
from lorameta.errors import UsageError
from lorameta.operator import OPERATORS

#: The two ends of the scale: 0 and 1 of the share of the gap that is closed.
BASE, OWN = "base", "own adapter"
#: The setting that the paper found best, and the controls that everything is compared with in pairs.
PAPER = "normalized js"
#: Labelled rows of a user who has some, and what is made of them by default.
LABELS = 128
AUTO = f"auto, {LABELS} rows"
CONTROLS = ("uniform", "random bank", PAPER, "multi_task", AUTO)
BLANK = "\n\n"
#: Labelled rows along which the study draws curves.
COUNTS = (4, LABELLED, 64, LABELS, 256)
#: Adapters of the random pick; rows per task of the control of one adapter for all tasks.
RANDOM, PER_TASK = 3, 16


@dataclass(frozen=True)
class Method:
    """A row of the study.

    Attributes
    ----------
    name, group : str
    make : callable
        A case → what was made of it.
    uses_bank : bool
        Whether it matters which adapters are left out; without, one setting tells all.
    after : tuple of str
        Methods whose results it reads.
    """

    name: str
    group: str
    make: Callable[[Case], Made]
    uses_bank: bool = True
    after: tuple[str, ...] = ()


METHODS: dict[str, Method] = {}


def method(name: str, group: str, **facts: Any) -> Callable[[Callable[[Case], Made]], Callable[[Case], Made]]:
    """Register the function below as a method."""

    def register(make: Callable[[Case], Made]) -> Callable[[Case], Made]:
        METHODS[name] = Method(name, group, make, **facts)
        return make

    return register


# The base model and its prompts.


@method(BASE, "ends", uses_bank=False)
def base(case: Case) -> Made:
    return Made()


@method("base, chat template", "prompts", uses_bank=False)
def chat_template(case: Case) -> Made:
    return Made(prompts=in_chat(case, case.test))


def in_chat(case: Case, rows: Sequence[Example]) -> list[Example]:
    """The rows with their prompts as a user's turn in the base's chat template."""
    tokenizer = case.scorer.tokenizer
    if not tokenizer.chat_template:
        raise UsageError(f"the tokenizer of {case.bank.base_model} has no chat template")

    def chat(text: str) -> str:
        turns = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    return [Example(chat(row.input), row.outputs) for row in rows]


@method("base, answer only", "prompts", uses_bank=False)
def answer_only(case: Case) -> Made:
    told = "Answer with the answer alone, without any other word."
    return Made(prompts=[Example(row.input.replace(BLANK, f" {told}{BLANK}", 1), row.outputs) for row in case.test])


def few_shot(case: Case, count: int) -> Made:
    shots = case.labelled(count)
    return Made(prompts=[Example(with_shots(row.input, shots), row.outputs) for row in case.test], labelled=count)


def with_shots(prompt: str, shots: list[Example]) -> str:
    """The prompt with solved examples between its definition and its input."""
    head, _, body = prompt.partition(BLANK)
    solved = [f"{join_prompt(shot.input.partition(BLANK)[2], shot.output)}{BLANK}" for shot in shots]
    return f"{head}{BLANK}{''.join(solved)}{body}"


for shots in (3, 5):
    method(f"few-shot prompt, {shots}", "prompts", uses_bank=False)(partial(few_shot, count=shots))


# Controls.


@method("random adapter", "controls")
def random_adapter(case: Case) -> Made:
    """The mean over some adapters drawn at random."""
    drawn = np.random.default_rng(seed_of("random", case.task)).choice(case.bank.ids, RANDOM, replace=False)
    several = [case.scores(case.bank[str(name)]) for name in drawn]
    return Made(scores={key: float(np.mean([one[key] for one in several])) for key in several[0]})


@method("random bank", "controls")
def random_bank(case: Case) -> Made:
    """The paper's weights on adapters of the same norms whose updates have random directions."""
    weights = case.generate(operator="normalized", distance="js").weights
    names = [name for name, weight in weights.items() if weight]
    modules, _ = combine([randomised(case.bank[name], name) for name in names], [weights[name] for name in names])
    return Made(Adapter(modules, case.bank.base_model))


def randomised(adapter: Adapter, name: str) -> Adapter:
    """An adapter with the same A and a Gaussian B, so scaled that each module's update keeps its norm."""
    rng = np.random.default_rng(seed_of("random bank", name))
    modules = {}
    for module, pair in adapter.modules.items():
        drawn = LoraPair(pair.A, rng.standard_normal(pair.B.shape), pair.scaling)
        length = drawn.norm()
        modules[module] = LoraPair(pair.A, drawn.B * (pair.norm() / length if length else 0.0), pair.scaling)
    return Adapter(modules, adapter.base_model, name=name)


@method("shuffled weights", "controls")
def shuffled(case: Case) -> Made:
    """The paper's weights on the wrong adapters: the same values, permuted."""
    weights = case.generate(operator="normalized", distance="js").weights
    names = list(case.bank.ids)
    values = np.random.default_rng(seed_of("shuffled", case.task)).permutation([weights.get(n, 0.0) for n in names])
    used = [(name, value) for name, value in zip(names, values, strict=True) if value]
    modules, _ = combine([case.bank[name] for name, _ in used], [value for _, value in used])
    return Made(Adapter(modules, case.bank.base_model))


@method("multi-task adapter", "controls", uses_bank=False)
def multi_task(case: Case) -> Made:
    """One adapter of rank 16 for every task, trained on rows of all tasks but those of a quarter of the sources.

    The target's source is in that quarter; so four trainings, kept in ``.work``, serve all targets.
    """
    from benchmarks.rows import read_parts
    from lorameta.training import finetune

    left_out, names = without_fold(case.whole, case.task)
    rows = [row for name in names for row in read_parts(case.data, name).train[:PER_TASK]]
    kept = ROOT / ".work" / "multi_task" / f"{case.whole.content_hash[:12]}-{left_out}"
    if not kept.is_dir():
        settings = like_the_bank(case) | {"rank": 16, "alpha": 32.0, "epochs": 1}
        finetune(rows, case.bank.base_model, settings=settings).save_pretrained(kept)
    return Made(Adapter.from_pretrained(kept), facts={"rows": len(rows), "tasks": len(names)})


def fit_alone(case: Case, rows: int) -> Made:
    """The readout alone, on the bare base: what any bank has to beat."""
    from lorameta.base_model.load import Base
    from lorameta.training.fit import fit_readout

    base = Base(case.scorer.model, case.scorer.tokenizer, case.bank.base_model, case.bank.base_revision)
    adapter, report = fit_readout(None, case.labelled(rows), base=base)
    return Made(adapter, labelled=rows, facts={"where": report.get("where"), "kept": report.get("kept")})


def to_the_end(case: Case, rows: int) -> Made:
    """LoRA on the labelled rows, as long as `lorameta finetune` takes by itself."""
    from lorameta.training import finetune

    return Made(finetune(case.labelled(rows), case.bank.base_model, settings=like_the_bank(case)), labelled=rows)


def same_seconds(case: Case, rows: int, other: str) -> Made:
    """LoRA on the rows that another method looks at, for the CPU seconds that it takes, on a busy machine too."""
    from lorameta.training import finetune

    minutes = max(case.done[other]["cpu_seconds"], 1.0) / 60
    settings = {"minutes": minutes, "epochs": None, **like_the_bank(case)}
    with mock.patch.object(time, "perf_counter", time.process_time):
        adapter = finetune(case.labelled(rows), case.bank.base_model, settings=settings)
    return Made(adapter, labelled=rows)


method("fine-tuned on 16 rows, seconds of trial", "controls", uses_bank=False, after=("trial",))(
    partial(same_seconds, rows=LABELLED, other="trial")
)
for count in COUNTS:
    method(f"fit without bank, {count} rows", "controls", uses_bank=False)(partial(fit_alone, rows=count))
    method(f"fine-tuned on {count} rows, to its end", "controls", uses_bank=False)(partial(to_the_end, rows=count))
    method(f"fine-tuned on {count} rows, seconds of auto", "controls", uses_bank=False, after=(f"auto, {count} rows",))(
        partial(same_seconds, rows=count, other=f"auto, {count} rows")
    )


def like_the_bank(case: Case) -> dict[str, Any]:
    """Rank, alpha and layers of the bank's adapters."""
    record = case.bank.records[case.bank.ids[0]]
    return {"rank": record.rank, "alpha": record.alpha, "targets": list(record.targets)}


@method("best single adapter in hindsight", "controls")
def hindsight(case: Case) -> Made:
    """The adapter with the lowest loss on the test rows themselves."""
    best = case.bank.ids[int(np.argmin(case.losses(case.test)))]
    return Made(case.bank[best], facts={"adapter": best})


@method(OWN, "ends", uses_bank=False)
def own(case: Case) -> Made:
    """The adapter that was trained on the task's own train rows with the recipe of the bank."""
    most = case.whole.records[case.task].training.get("settings", {}).get("max_rows")
    return Made(case.whole[case.task], labelled=min(len(case.train), most or len(case.train)))


# Mixtures of the bank: what `generate_adapter` does with these options.


def generated(case: Case, labelled: int | None = 0, rows: int | None = None, **options: Any) -> Made:
    """Generate from all train rows, or the first `rows`; `labelled` of them (None: all) are looked at with answers."""
    adapter = case.generate(None if rows is None else case.labelled(rows), **options)
    report = adapter.report
    kept = ("effective_number", "distance", "operator", "temperature", "top_k", "combiner")
    facts = {name: report[name] for name in kept if name in report}
    if "auto" in report:
        facts["auto"] = {key: report["auto"].get(key) for key in ("chose", "stages")}
    facts["p_value"] = (report.get("outside") or {}).get("p_value")
    return Made(adapter, labelled=len(case.train) if labelled is None else labelled, facts=facts)


def neural(case: Case, distance: str) -> Made:
    """The neural operator, fitted to the adapters that the case may use."""
    from lorameta.distance import distance_matrix, distances
    from lorameta.mixing.compare import summarise
    from lorameta.operator.neural import fit_neural

    places = [case.whole.ids.index(name) for name in case.bank.ids]
    matrix = distance_matrix(case.bank.summaries, distance)
    operator = fit_neural(matrix, products(case.whole)[np.ix_(places, places)])
    weights = operator.weights(distances(summarise(case.train, case.bank, distance), case.bank.summaries, distance))
    modules, _ = combine([case.bank[name] for name in case.bank.ids], weights)
    return Made(Adapter(modules, case.bank.base_model))


@functools.cache
def products(bank: AdapterBank) -> np.ndarray:
    """Inner products of all adapters, once a process."""
    from lorameta.mixing.neural_fit import bank_gram

    return bank_gram(bank)


def generates(name: str, group: str, **options: Any) -> None:
    """Register a method that is a call of `generate_adapter`."""
    method(name, group)(partial(generated, **options))


for count in COUNTS:
    generates(f"auto, {count} rows", "operators", labelled=count, rows=count, operator="auto")
generates("auto, 128 rows, budget 30", "operators", labelled=LABELS, rows=LABELS, operator="auto", budget=30.0)
generates("auto, all rows", "operators", labelled=None, operator="auto")
generates("auto without fit, 128 rows", "operators", labelled=LABELS, rows=LABELS, operator="auto", fit=False)
generates("uniform", "controls", operator="uniform")
for name in DISTANCES:
    generates(f"nearest {name}", "distances", operator="nearest", distance=name)
    generates(f"normalized {name}", "distances", operator="normalized", distance=name)
    generates(f"attentional {name}", "distances", operator="attentional", distance=name)
    method(f"neural {name}", "distances")(partial(neural, distance=name))
generates("normalized js (factor)", "combiners", operator="normalized", combiner="factor")
generates("normalized js (delta)", "combiners", operator="normalized", combiner="delta")
for name, operator in OPERATORS.items():
    if name not in METHODS and f"{name} js" not in METHODS:
        generates(name, "operators", operator=name, labelled=LABELLED if "rows" in operator.needs else 0)

#: Methods of a run without ``--methods``: the ends, the controls that the literature asks for, and what is compared.
STUDY = (
    BASE, "base, chat template", "base, answer only", "few-shot prompt, 3", "few-shot prompt, 5",
    "uniform", "random adapter", "random bank", "shuffled weights", "nearest js", PAPER, "attentional js", "trial",
    "fine-tuned on 16 rows, seconds of trial", OWN,
)  # fmt: skip
