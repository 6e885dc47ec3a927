"""What is measured of a recipe: scores of an adapter, of mixtures of the others, and how linear the model is in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lorameta.adapter import Adapter
from lorameta.base_model.batch import collate, encode_example
from lorameta.combiner import combine
from lorameta.data.split import Parts
from lorameta.distance import distances
from lorameta.encoder import DatasetSummary, Summaries
from lorameta.evaluate import Scorer
from lorameta.operator import mixing_weights

#: Temperature of `trial`.
TRIAL_TEMPERATURE = 0.25
#: Step of the linearity index.
EPSILON = 0.25


@dataclass(frozen=True)
class Task:
    """A task: `parts.train` is learned from, `parts.validation` is scored."""

    id: str
    parts: Parts
    summary: DatasetSummary


def measure(scorer: Scorer, task: Task, adapter: Adapter | None) -> dict[str, float]:
    """Exact match and loss on the validation rows."""
    references = [f" {text}" for row in task.parts.validation for text in row.outputs]
    scorer.max_new_tokens = 2 + max(len(ids) for ids in scorer.tokenizer(references)["input_ids"])  # longer is wrong
    scores = scorer.score(task.parts.validation, adapter)
    return {"exact_match": scores.exact_match, "loss": round(scores.loss, 5)}


def transfer(
    scorer: Scorer, task: Task, others: list[Task], adapters: dict[str, Adapter], rows: int
) -> dict[str, dict[str, float]]:
    """Score the paper's mix, `trial` and the average of the other tasks' adapters."""
    bank = [adapters[other.id] for other in others]
    known = Summaries.from_list([other.id for other in others], [other.summary for other in others])
    few = replace(task, parts=Parts(task.parts.train, task.parts.train[:rows]))
    losses = np.array([loss(scorer, few, adapter) for adapter in bank])
    weights = {
        "js": mixing_weights(distances(task.summary, known, "js"), "normalized"),
        "trial": mixing_weights(losses, "normalized", temperature=TRIAL_TEMPERATURE),
        "uniform": np.full(len(bank), 1 / len(bank)),
    }
    found = {}
    for method, chosen in weights.items():
        modules, _ = combine(bank, chosen)
        found[method] = measure(scorer, task, Adapter(modules, bank[0].base_model))
    return found


def loss(scorer: Scorer, task: Task, adapter: Adapter) -> float:
    """Mean loss of an adapter on the task's validation rows."""
    logits, answers = answer_logits(scorer, task, adapter, 1.0)
    return float(torch.nn.functional.cross_entropy(logits, answers))


def linearity(scorer: Scorer, task: Task, adapter: Adapter) -> float:
    """‖(f(Δ) − f(0)) − (f(εΔ) − f(0))/ε‖ / ‖f(Δ) − f(0)‖ on the answers' logits; 0 for a model linear in the update."""
    start, _ = answer_logits(scorer, task, adapter, 0.0)
    full = answer_logits(scorer, task, adapter, 1.0)[0] - start
    tangent = (answer_logits(scorer, task, adapter, EPSILON)[0] - start) / EPSILON
    return float((full - tangent).norm() / full.norm())


def answer_logits(scorer: Scorer, task: Task, adapter: Adapter, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (answer tokens, vocabulary) with `scale` times the update, and the tokens that are right."""
    model = scorer.model
    encoded = [encode_example(scorer.tokenizer, example) for example in task.parts.validation]
    ids, attention, answers = collate(encoded, scorer.tokenizer.pad_token_id)
    wanted = answers[:, 1:]
    hooks: list[Any] = [
        model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][wanted],))
    ]
    for name, pair in adapter.modules.items() if scale else ():
        A = torch.from_numpy(pair.A).to(model.dtype)
        B = (torch.from_numpy(pair.B) * (pair.scaling * scale)).to(model.dtype)
        hooks.append(
            model.get_submodule(name).register_forward_hook(
                lambda _, inputs, output, A=A, B=B: output + (inputs[0] @ A.T) @ B.T
            )
        )
    try:
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=attention).logits.float(), ids[:, 1:][wanted]
    finally:
        for hook in hooks:
            hook.remove()
