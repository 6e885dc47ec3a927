"""The part of an adapter's card that tells how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fitted(about: Mapping[str, Any]) -> list[str]:
    """Markdown lines on a fit of the model's end; `about` is ``Adapter.report["fit"]``. Times are no part of it."""
    if not about.get("kept"):
        return []
    names = {"block": "the last down_proj", "head": "the language-model head"}
    where = ", ".join(f"{names[part]} at rank {rank}" for part, rank in about["rank"].items())
    before, after = about["before"], about["after"]
    facts = {
        "fitted": where,
        "rows": f"{about['used_rows']} of {about['rows']}; {about['held_out_rows']} held out to decide",
        "loss on the held-out rows (nats per token)": f"{before['loss']:.4f} before, {after['loss']:.4f} after",
        "exact match on the held-out rows": f"{before['exact_match']:.1%} before, {after['exact_match']:.1%} after",
    }
    return [
        "## How it was fitted", "",
        "Labelled rows went through the model once, forwards; its end was fitted to them; no gradient went through it.",
        "", *(f"- {label}: {value}" for label, value in facts.items()), "",
    ]  # fmt: skip


def refined(about: Mapping[str, Any]) -> list[str]:
    """Markdown lines on a training; `about` is ``Adapter.report["refinement"]``. Times are no part of it."""
    facts = {
        "start": {"mixture": "the mixture above", "adapter": "another adapter", "scratch": "from scratch"}[
            about["start"]
        ],
        "steps": f"{about['steps']} of {about['batch_size']} rows; the state after step {about['best_step']} was kept",
        "rows": f"{about['rows']} trained on, {about['held_out']} held out to choose the state by",
        "loss on the held-out rows (nats per token)": f"{about['loss_at_start']:.4f} before, {about['loss']:.4f} after",
        "layers": ", ".join(about["targets"]),
        "rank, alpha, learning rate, seed": f"{about['rank']}, {about['alpha']:g}, {about['learning_rate']:.3g}, "
        f"{about['seed']}",
        "precision of the base": about["precision"],
    }
    return ["## How it was trained", "", *(f"- {label}: {value}" for label, value in facts.items()), ""]
