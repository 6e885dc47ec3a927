"""The study's shortcuts give what the library gives."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from methods import Method, Mixer, Tables, best_rank, catalogue, source_folds
from quality_report import Boot, comparison, selection
from scoring import UpdateScorer, few_shot

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank
from lorameta.combiner import combine
from lorameta.data import Example, load_examples
from lorameta.evaluate import Scorer
from lorameta.examples import path as example_path

IDS = ("active_to_passive", "clinc_domain", "sgd_speaker", "emoji_category")


@pytest.fixture(scope="module")
def bank() -> AdapterBank:
    return AdapterBank.open().select(IDS)


@pytest.fixture(scope="module")
def mixer(bank: AdapterBank) -> Mixer:
    return Mixer(bank)


@pytest.mark.parametrize("combiner", ["delta", "factor", "sum"])
def test_updates_are_those_of_the_library(bank: AdapterBank, mixer: Mixer, combiner: str) -> None:
    weights = np.array([0.5, -0.2, 0.0, 0.7])
    made = mixer.update(weights, combiner, 1.5)
    method = "concat" if combiner == "sum" else combiner
    expected, _ = combine([bank[i] for i in IDS], weights, method=method)
    assert set(made) == set(expected)
    for name, delta in made.items():
        wanted = 1.5 * expected[name].delta()
        np.testing.assert_allclose(delta.numpy(), wanted, atol=2e-5 * np.abs(wanted).max())


def test_best_rank_is_the_cut_svd() -> None:
    import torch

    for shape in ((7, 12), (12, 7)):
        matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        U, S, Vt = torch.linalg.svd(matrix, full_matrices=False)
        torch.testing.assert_close(best_rank(matrix, 3), (U[:, :3] * S[:3]) @ Vt[:3], atol=1e-5, rtol=1e-5)


def test_scores_are_those_of_the_library(bank: AdapterBank, mixer: Mixer) -> None:
    examples = load_examples(example_path("helpdesk_test.jsonl"))[:12]
    examples += [Example(e.input[:-7], (e.output, "x")) for e in examples[:3]]  # no common end, several references
    scorer, quick = Scorer(bank.base_model), UpdateScorer(bank.base_model, batch_size=6)
    batches = quick.prepare(examples)
    weights = np.array([0.0, 1.0, 0.0, 0.0])
    modules, _ = combine([bank["clinc_domain"]], [1.0])
    mixed = Adapter(modules, bank.base_model, None, {}, {})
    for update, adapter in ((None, None), (mixer.update(weights, "delta"), mixed), (None, None)):
        found, expected = quick.score(batches, update), scorer.score(examples, adapter)
        assert found["loss"] == pytest.approx(expected.loss, abs=2e-4)
        assert found["exact_match"] == pytest.approx(expected.exact_match)
        assert found["rouge_l"] == pytest.approx(expected.rouge_l)


def test_few_shot_puts_solved_examples_behind_the_definition() -> None:
    shot = Example("Definition: Add.\n\nInput: 1 2\n\nOutput:", ("3",))
    asked = few_shot("Definition: Add.\n\nInput: 4 5\n\nOutput:", [shot])
    assert asked == "Definition: Add.\n\nInput: 1 2\n\nOutput: 3\n\nInput: 4 5\n\nOutput:"


def tables() -> Tables:
    generator = np.random.default_rng(0)
    sources = ("a", "a", "b", "b", "b", "c", "d", "e")
    distances = {name: generator.uniform(size=(8, 8)) for name in ("js", "cosine", "loss")}
    return Tables(tuple("abcdefgh"), sources, distances, np.eye(8), source_folds(sources, 3), np.eye(8))


def test_a_task_never_uses_its_own_adapter_nor_its_source() -> None:
    made = tables()
    methods = [
        m
        for m in catalogue()
        if m.kind == "mix" and m.operator != "neural" and all(d in made.distances for d in m.distance.split("+"))
    ]
    assert len(methods) > 20
    for method in methods:
        for task in range(8):
            loo, source = (made.weights(method, task, setting) for setting in ("loo", "source"))
            assert loo[task] == 0
            assert not source[[s == made.sources[task] for s in made.sources]].any()
            assert loo.sum() == pytest.approx(1)
            assert source.sum() == pytest.approx(1)


def test_folds_keep_sources_together_and_are_even() -> None:
    sources = ("a",) * 5 + tuple("bcdefghijk")
    folds = source_folds(sources, 3)
    assert all(len({f for f, s in zip(folds, sources, strict=True) if s == source}) == 1 for source in set(sources))
    assert np.bincount(folds).tolist() == [5, 5, 5]


def test_matched_norm_is_the_mean_norm() -> None:
    made = tables()
    weights = np.full(8, 1 / 8)
    scale = made.scale(Method("m", scale="match"), weights)
    assert scale * np.sqrt(weights @ made.gram @ weights) == pytest.approx(1.0)


def test_comparison_and_selection_on_scores_known_by_hand() -> None:
    def found(exact: float) -> dict:
        return {"exact_match": exact, "rouge_l": exact, "loss": 2 - exact, "effective_number": 3.0}

    values = {"base": (0.0, 0.2), "fine-tuned": (1.0, 1.0), "normalized js (factor)": (0.1, 0.3), "m": (0.6, 0.7)}
    scores = {f"t{i}": {name: found(v[i]) for name, v in values.items()} for i in range(2)}
    line = comparison(scores, [Method("m", group="grid")], Boot(2))["m"]
    assert line["exact_match_gap_closed"] == pytest.approx((0.65 - 0.1) / 0.9, abs=1e-4)
    assert line["loss_gap_closed"] == pytest.approx(line["exact_match_gap_closed"], abs=1e-4)
    assert line["exact_match_over_paper"] == pytest.approx(0.45)
    assert line["exact_match_interval"] == [0.6, 0.7]
    assert selection(scores, ["base", "m"], "loss")["best_on_all_tasks"] == "m"
