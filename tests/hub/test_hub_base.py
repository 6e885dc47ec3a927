"""A base on the Hub that a bank pins to a commit: what is scored is that commit, whatever was pushed since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.hub.test_hub_build import build


@pytest.fixture
def pinned(lorameta, author, tmp_path) -> Path:
    """An index whose base was changed on the Hub after it was pinned."""
    from safetensors.numpy import load, save

    author.fill()
    repo = author.repo("models", author.base)
    done = build(lorameta, author, "--revision", repo.head)
    assert done.code == 0, done.err
    arrays = load(repo.commits[repo.head]["model.safetensors"])
    changed = {name: np.negative(array) if name == "lm_head.weight" else array for name, array in arrays.items()}
    repo.commit({"model.safetensors": save(changed, metadata={"format": "pt"})})
    return tmp_path / "bank"


def test_evaluate_scores_the_pinned_base(lorameta, pinned, rows, tiny_bank):
    found = lorameta("evaluate", rows, "--bank", pinned, "--json")
    local = lorameta("evaluate", rows, "--bank", tiny_bank, "--json")
    assert found.code == local.code == 0, found.err + local.err
    assert found.json["scores"]["base"] == local.json["scores"]["base"]


def test_trial_measures_on_the_pinned_base(lorameta, pinned, rows, tiny_bank, tmp_path):
    words = ("generate", rows, "--operator", "trial", "--json")
    found = lorameta(*words, "-o", "of-the-hub", "--bank", pinned)
    local = lorameta(*words, "-o", "local", "--bank", tiny_bank)
    assert found.code == local.code == 0, found.err + local.err
    weights = found.json["weights"]
    assert {name.removeprefix("lora-"): weight for name, weight in weights.items()} == pytest.approx(
        local.json["weights"], rel=1e-6
    )
