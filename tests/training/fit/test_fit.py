"""`fit_readout` as a whole: what comes back is better, arrives in PEFT as it was fitted, and never does harm."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lorameta.adapter import Adapter
from lorameta.base_model.batch import encode_example
from lorameta.base_model.load import Base, load_base
from lorameta.data import Example
from lorameta.errors import DataError, UsageError
from lorameta.evaluate import Scorer
from lorameta.training.fit import decide, fit_readout
from lorameta.training.fit.solver import RowScores, predict
from lorameta.training.fit.states import AnswerStates, Passed, Readout, find_readout
from tests.conftest import task_rows
from tests.training.fit.test_states import dense

LAST = "model.layers.1.mlp.down_proj"


@pytest.mark.parametrize(("where", "changed"), [("block", {LAST}), ("head", {"lm_head"}), ("both", {LAST, "lm_head"})])
def test_new_rows_are_answered_better(base: Base, rows: list[Example], where: str, changed: set[str]) -> None:
    fitted, report = fit_readout(None, rows, base=base, where=where, rank=16)
    assert set(fitted.modules) == changed
    assert report["kept"]
    assert report["used_rows"] == report["rows"] == report["held_out_rows"] == 40  # of few rows each is held out once
    assert report["after"]["loss"] < 0.5 * report["before"]["loss"]
    assert report["after"]["exact_match"] >= report["before"]["exact_match"]
    assert fitted.report["fit"] == report
    test = [Example(row["input"], (row["output"],)) for row in task_rows("animal_sound", 80)[40:]]
    scorer = Scorer.of("tied", base.model, base.tokenizer, max_new_tokens=8)
    before, after = scorer.score(test), scorer.score(test, fitted)
    assert after.loss < 0.6 * before.loss
    assert after.exact_match > 0.5 > before.exact_match


def test_auto_prefers_the_last_block(base: Base, rows: list[Example]) -> None:
    fitted, report = fit_readout(None, rows, base=base)
    found = {name: (one["loss"], one["exact_match"]) for name, one in report["candidates"].items()}
    assert set(found) == {"block", "head"}
    better = found["head"][0] < 0.95 * found["block"][0] and found["head"][1] >= found["block"][1]
    assert report["where"] == ("head" if better else "block")
    changed = {"block": {LAST}, "head": {"lm_head"}}
    assert set(fitted.modules) == changed[report["where"]]


def test_peft_gives_the_logits_of_the_base_with_the_update(
    tied_base: Path, rows: list[Example], adapter: Adapter, tmp_path: Path
) -> None:
    from peft import PeftModel

    fitted, report = fit_readout(adapter, rows, base=tied_base, where="both", rank=4)
    assert report["rank"] == {"block": 4, "head": 4}
    assert {name: pair.rank for name, pair in fitted.modules.items()} == {
        "model.layers.0.self_attn.q_proj": 3, LAST: 7, "lm_head": 7,
    }  # fmt: skip
    directory = fitted.save_pretrained(tmp_path / "fitted")
    plain, wrapped = load_base(tied_base).model, load_base(tied_base).model
    embedding = wrapped.get_input_embeddings().weight.detach().clone()
    wrapped = PeftModel.from_pretrained(wrapped, directory).eval()
    ids = torch.tensor([[1, 20, 33, 47, 5]])
    with torch.inference_mode():
        expected = dense(plain, fitted.modules)(input_ids=ids).logits
        torch.testing.assert_close(wrapped(input_ids=ids).logits, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(wrapped.get_input_embeddings().weight, embedding)
    size = (directory / "adapter_model.safetensors").stat().st_size
    assert size == pytest.approx(4 * 7 * (48 + 48 + 48 + 96 + 400 + 48), rel=0.1)  # A and B alone, no embedding
    again = Adapter.from_pretrained(directory)
    for name, pair in fitted.modules.items():
        np.testing.assert_allclose(again.modules[name].delta(), pair.delta(), rtol=1e-5, atol=1e-6)


def test_the_update_comes_on_top_of_the_adapter(base: Base, rows: list[Example], adapter: Adapter) -> None:
    fitted, _ = fit_readout(adapter, rows, base=base, where="block")
    assert fitted.base_model == adapter.base_model
    for name in adapter.modules:
        known, new = adapter.modules[name].delta(), fitted.modules[name]
        old = new.B[:, :3] @ new.A[:3]
        np.testing.assert_allclose(old * new.scaling, known, rtol=1e-5, atol=1e-5)
    assert fitted.modules[LAST].rank > 3


def test_the_same_call_gives_the_same_bytes(base: Base, rows: list[Example], tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        fitted, report = fit_readout(None, rows, base=base, where="both", seed=4)
        assert report["kept"]
        directory = fitted.save_pretrained(tmp_path / name)
        written.append((directory / "adapter_model.safetensors").read_bytes())
    assert written[0] == written[1]


def test_the_exact_match_of_the_report_is_that_of_generation(base: Base, rows: list[Example]) -> None:
    _, report = fit_readout(None, rows[:4], base=base, where="block")
    answers = Scorer.of("tied", base.model, base.tokenizer).score(rows[:4])
    assert report["before"]["exact_match"] == answers.exact_match
    assert report["before"]["loss"] == pytest.approx(answers.loss, rel=1e-4)


def noise(seed: int, count: int = 200) -> AnswerStates:
    """Answers drawn from the model's own distribution: nothing can be better than no update."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.normal(size=(count, 6))).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gold = np.array([rng.choice(6, p=row.astype(np.float64) / row.astype(np.float64).sum()) for row in chances])
    empty = np.full(count, -30, dtype=np.float32)
    x = rng.normal(size=(count, 48)).astype(np.float32)
    return AnswerStates(np.arange(count), gold, np.arange(6), x, logits, empty, empty)


def test_what_does_no_good_on_held_out_rows_is_dropped(base: Base, rows: list[Example]) -> None:
    readout = find_readout(base.model, encode_example(base.tokenizer, rows[0]))
    examples = [Example(f"row {index}", ("yes",)) for index in range(200)]
    kept = 0
    for seed in range(6):
        states = noise(seed)
        passed = Passed(states, np.arange(200), 0.0, 0.0, 0)
        update, report = decide(
            passed, examples, Readout(readout.head, "lm_head", 1.0), {}, ("head",), None, 0.25, None, 0.0, 0
        )
        better = report["after"]["loss"] < report["before"]["loss"]
        assert bool(update) == report.get("kept", False)
        assert bool(update) == (better and report["after"]["exact_match"] >= report["before"]["exact_match"])
        kept += bool(update)
    assert kept < 6


def test_a_fit_that_answers_fewer_rows_right_is_dropped(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorameta.training.fit import choose

    states = noise(0)
    states = replace(states, gold=states.x[:, :6].argmax(axis=1), logits=np.zeros_like(states.logits))
    given = (Passed(states, np.arange(200), 0.0, 0.0, 0), [Example(f"row {index}", ("yes",)) for index in range(200)])
    head = Readout(base.model.get_output_embeddings(), "lm_head", 1.0)
    update, report = decide(*given, head, {}, ("head",), None, 0.25, None, 0.0, 0)
    assert update
    assert report["after"]["exact_match"] > report["before"]["exact_match"] > 0

    def none_right(found: AnswerStates) -> RowScores:
        return predict(found)._replace(right=np.zeros(len(found.gold), dtype=bool))

    monkeypatch.setattr(choose, "predict", none_right)
    update, report = decide(*given, head, {}, ("head",), None, 0.25, None, 0.0, 0)
    assert not update
    assert report["after"]["loss"] < report["before"]["loss"]
    assert "answered right" in report["reason"]


def test_too_few_rows_leave_the_adapter_as_it_is(base: Base, rows: list[Example], adapter: Adapter) -> None:
    fitted, report = fit_readout(adapter, [rows[0]] * 9, base=base)
    assert not report["kept"]
    assert "fewer than four different rows" in report["reason"]
    assert all(fitted.modules[name] is pair for name, pair in adapter.modules.items())
    empty, _ = fit_readout(None, rows[:3], base=base)
    assert empty.norm() == 0
    assert set(empty.modules) == {LAST}


def test_copies_of_a_row_are_held_out_together(base: Base, rows: list[Example]) -> None:
    from lorameta.training.fit.choose import folds_of

    states = noise(0, 60)
    examples = [Example(f"row {index % 20}", ("yes",)) for index in range(60)]
    folds = folds_of(states, examples, 0.25, 0)
    assert folds
    for fit, held in folds:
        assert len(held.rows)
        assert not {row % 20 for row in fit.rows} & {row % 20 for row in held.rows}


def test_a_budget_is_kept_by_leaving_rows_out(base: Base, rows: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # each look at it is a second later, whatever the machine
    monkeypatch.setattr("lorameta.training.fit.states.time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    _, report = fit_readout(None, rows, base=base, budget=0.01)
    assert report["used_rows"] == 8
    assert report["forecast_seconds"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"where": "tail"}, "unknown place"), ({"rank": 0}, "rank 0"), ({"held_out": 0.9}, "held_out"),
     ({"budget": 0}, "budget")],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(base: Base, rows: list[Example], options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit_readout(None, rows, base=base, **options)


def test_rows_without_an_answer_are_refused(base: Base, rows: list[Example]) -> None:
    with pytest.raises(DataError, match="1 of the 2"):
        fit_readout(None, [rows[0], replace(rows[1], outputs=())], base=base)
    with pytest.raises(DataError, match="no rows"):
        fit_readout(None, [], base=base)


def test_refine_goes_on_from_a_fit_of_a_tied_head(tied_base: Path, rows: list[Example], tmp_path: Path) -> None:
    from lorameta.training import refine

    fitted, _ = fit_readout(None, rows, base=tied_base, where="both", rank=4)
    data = [{"input": row.input, "output": row.output} for row in rows]
    embedding = load_base(tied_base).model.get_input_embeddings().weight.detach().clone()
    settings = {"steps": 4, "batch_size": 8, "learning_rate": 1e-3, "precision": "float32", "threads": 1}
    base = load_base(tied_base)
    further = refine(fitted, data, base=base, settings=settings)
    assert set(further.modules) == set(fitted.modules)
    about = further.report["refinement"]
    assert about["loss"] <= about["loss_at_start"]
    assert about["loss_at_start"] < 1.0  # the start was the fit, not the base
    assert torch.equal(base.model.get_input_embeddings().weight, embedding)
