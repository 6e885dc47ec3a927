"""`operator="auto"`: what it plans, that held-out rows decide, and that less is used where there is less."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.data import Example, load_examples
from lorameta.errors import DataError, LorametaWarning
from lorameta.generate import generate_adapter, mix
from lorameta.mixing import auto, budget
from lorameta.operator import transfer_file
from lorameta.operator.mixture_loss import MixtureLoss

pytest.importorskip("peft")
SMOL = 135_000_000


@pytest.fixture
def bank(tiny_bank):
    return AdapterBank.open(tiny_bank)


def rows(count, length=150):
    return [Example("A prompt that all share. " + "x" * length + f"{i}", ("yes",)) for i in range(count)]


def apart(count, length):
    """Rows that share no beginning."""
    return [Example(f"{i} " + "x" * length, ("yes",)) for i in range(10_000, 10_000 + 90 * count, 90)]


def test_a_plan_fits_its_budget_and_grows_with_it():
    plans = [budget.plan(rows(128), 120, SMOL, seconds) for seconds in (10, 20, 40, 60, 120, 600)]
    for seconds, plan in zip((10, 20, 40, 60, 120, 600), plans, strict=True):
        assert plan.seconds <= seconds
        assert plan.stack + plan.held_out <= 128
    work = [(plan.fit, plan.candidates * plan.stack) for plan in plans]
    assert work == sorted(work)
    assert plans[-1].fit == 128
    assert (plans[-1].candidates, plans[-1].stack) == budget.STACKS[0]
    assert any("budget" in sentence for sentence in plans[1].more)


def test_a_processor_with_bfloat16_does_more_in_the_same_seconds():
    slow, fast = (budget.plan(apart(400, 300), 120, SMOL, 60, fast) for fast in (False, True))
    assert slow.seconds <= 60
    assert fast.seconds <= 60
    assert slow.fit < fast.fit
    assert slow.candidates * slow.stack <= fast.candidates * fast.stack


def test_a_small_budget_goes_to_the_readout_before_stack():
    whole, small = (budget.plan(apart(128, 40), 120, SMOL, seconds) for seconds in (60, 38))
    assert small.seconds <= 38
    assert (whole.fit, whole.candidates, whole.stack) == (128, *budget.STACKS[0])
    assert small.fit > 64
    assert small.candidates * small.stack < whole.candidates * whole.stack


def test_what_stack_leaves_of_a_budget_goes_to_the_readout():
    plan = budget.plan(apart(400, 150), 120, SMOL, 60)
    row = budget.seconds_per_row(apart(400, 150), SMOL, budget.SPEED)
    assert 16 <= plan.fit < 400
    assert 60 - plan.seconds < row


def test_candidates_come_from_both_ends():
    slopes = np.arange(10.0)[::-1]  # the farthest has the steepest
    assert auto.first_by_either(slopes, 4).tolist() == [0, 1, 8, 9]
    assert auto.first_by_either(-slopes, 3).tolist() == [0, 1, 2]
    assert auto.first_by_either(slopes, 20).tolist() == list(range(10))


@pytest.mark.parametrize(
    ("labelled", "size", "seconds", "why"),
    [(3, SMOL, 60, "3 labelled rows, 8 are needed"), (64, 7_000_000_000, 60, "the budget is 60")],
)
def test_where_nothing_can_be_run_the_plan_says_why(labelled, size, seconds, why):
    plan = budget.plan(rows(labelled), 100, size, seconds)
    assert (plan.gradient, plan.candidates, plan.fit) == (0, 0, 0)
    assert why in plan.why
    assert plan.more


def test_without_labels_it_goes_by_what_adapters_were_worth_where_that_is_known(tiny_bank, tmp_path):
    shutil.copytree(tiny_bank, tmp_path / "bank")
    bank, unlabelled = AdapterBank.open(tmp_path / "bank"), ["Repeat the words: a b", "Repeat the words: c d"]
    unlabelled = [{"text": text} for text in unlabelled]
    assert mix(unlabelled, bank=bank).operator == "normalized"
    transfer_file.save(np.tile([0.0, 1.0, 2.0, 9.0], (4, 1)), bank, rows=12)
    found = mix(unlabelled, bank=bank)
    assert (found.operator, found.auto["chose"]) == ("transfer", "transfer")
    assert "no row has an answer" in found.auto["why"]
    np.testing.assert_array_equal(found.weights, mix(unlabelled, bank=bank, operator="transfer").weights)
    assert mix(unlabelled, bank=bank, temperature=1.0).operator == "normalized"
    transfer_file.path_of(bank).write_bytes(b"x" * 100)
    with pytest.warns(LorametaWarning, match="transfer is left out: .* is damaged"):
        assert mix(unlabelled, bank=bank).operator == "normalized"


def test_the_stages_are_measured_on_rows_that_none_of_them_saw(bank, tiny_rows, monkeypatch):
    seen = []
    first = MixtureLoss.__init__

    def noted(self, base, adapters, examples):
        seen.append(list(examples))
        first(self, base, adapters, examples)

    monkeypatch.setattr(MixtureLoss, "__init__", noted)
    mixture = mix(tiny_rows, bank=bank)
    report = mixture.auto
    names = [stage["name"] for stage in report["stages"]]
    assert names[:3] == ["base", "normalized", "gradient"]
    held = seen[-1]
    assert len(held) == report["held_out_rows"] == 3
    assert not {e.input for batch in seen if batch != held for e in batch} & {e.input for e in held}
    kept = [stage for stage in report["stages"][1:] if stage["kept"]]
    assert kept[-1]["name"] == report["chose"] == mixture.operator
    assert kept[-1]["loss"] == min(stage["loss"] for stage in report["stages"][1:])
    json.dumps(mixture.report())


def test_the_losses_are_those_of_the_delivered_adapter(bank, tiny_rows):
    from lorameta.base_model.load import load_base

    adapter = generate_adapter(tiny_rows, bank=bank, fit=False)
    report, examples = adapter.report["auto"], load_examples(tiny_rows)
    order = np.random.default_rng(0).permutation(len(examples))
    held = [examples[i] for i in sorted(order[:3])]
    loss = MixtureLoss(load_base(bank.base_model, dtype=report["precision"]), [adapter], held)
    stage = next(stage for stage in report["stages"] if stage["name"] == report["chose"])
    assert loss(np.ones(1)) == pytest.approx(stage["loss"], abs=1e-3)
    assert loss(np.zeros(1)) == pytest.approx(report["stages"][0]["loss"], abs=1e-3)


def test_the_readout_is_a_stage_of_its_own(bank, tiny_rows):
    """Twice the rows, so that its own held-out rows can speak; its report and the whole adapter come from it."""
    adapter = generate_adapter(tiny_rows, bank=bank)
    stages = {stage["name"]: stage for stage in adapter.report["auto"]["stages"]}
    assert stages["fit"]["rows"] == 12
    assert stages["fit"]["kept"] == adapter.report["fit"]["kept"] == adapter.report["auto"]["chose"].endswith(" + fit")
    if stages["fit"]["kept"]:
        assert stages["fit"]["loss"] < stages["fit"]["before"]["loss"]
    assert adapter.report["seconds"]["fit"] > 0
    named = generate_adapter(tiny_rows, bank=bank, operator="normalized", fit=True)
    assert named.report["fit"]["rows"] == 12
    assert "auto" not in named.report
    with pytest.raises(DataError, match="to fit a readout to"):
        generate_adapter([{"text": "a b"}, {"text": "c d"}], bank=bank, fit=True)


def test_the_same_call_gives_the_same_weights(bank, tiny_rows):
    first, second = (mix(tiny_rows, bank=bank) for _ in range(2))
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.auto == second.auto


def test_without_answers_labels_base_or_on_demand_the_distances_decide(bank, tiny_rows, monkeypatch):
    examples = load_examples(tiny_rows)
    bare = [{"text": example.input} for example in examples]
    expected = mix(bare, bank=bank, operator="normalized")
    found = mix(bare, bank=bank)
    np.testing.assert_array_equal(found.weights, expected.weights)
    assert found.auto["why"] == "no row has an answer"
    few = mix(examples[:5], bank=bank)
    assert "8 are needed" in few.auto["why"]
    monkeypatch.setattr(auto, "missing", lambda *_: "the base model is on the moon")
    away = mix(examples, bank=bank)
    assert (away.operator, away.auto["why"]) == ("normalized", "the base model is on the moon")
    assert mix(examples, bank=bank, top_k=2).auto == {}


def test_a_bank_that_only_harms_is_warned_of(bank, tiny_rows, monkeypatch):
    monkeypatch.setattr(
        MixtureLoss, "measure", lambda self, weights: auto.Measured(
            np.full(2, 1.0 + np.abs(weights).sum()), np.ones(2, dtype=int), np.zeros(2, dtype=bool)
        )
    )  # fmt: skip
    with pytest.warns(LorametaWarning, match="no mixture beats the base model on 3 held-out rows"):
        mix(tiny_rows, bank=bank)


def test_the_command_line_says_what_it_chose_and_fast_runs_nothing(lorameta, tiny_bank, tiny_rows, tmp_path):
    text = lorameta("generate", tiny_rows, "-o", tmp_path / "a", "--bank", tiny_bank, "--no-fit").out
    assert "Chosen" in text
    assert "12 labelled rows and the base model are at hand" in " ".join(text.split())
    assert "on 3 held-out rows" in " ".join(text.split())
    card = (tmp_path / "a" / "README.md").read_text()
    assert "loss on 3 held-out rows" in card
    fast = lorameta("explain", tiny_rows, "--bank", tiny_bank, "--fast", "--json").json
    assert fast["operator"] == "normalized"
    assert "auto" not in fast
    wrong = lorameta("explain", tiny_rows, "--bank", tiny_bank, "--fast", "--operator", "trial")
    assert wrong.code == 2
    assert "leave out --fast" in wrong.err
