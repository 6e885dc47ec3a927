"""Every operator through `generate_adapter`: what it needs is fetched, what it would ignore is refused."""

from __future__ import annotations

import shutil
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lorameta.bank import AdapterBank
from lorameta.cli.operators import with_operators
from lorameta.data import load_examples
from lorameta.encoder import SentenceEncoder
from lorameta.encoder.summary import DatasetSummary
from lorameta.errors import BankError, DataError, LorametaWarning, UsageError
from lorameta.generate import generate_adapter, mix
from lorameta.mixing import neural_fit as fit
from lorameta.operator import OPERATORS, Operator, Option, mixing_weights
from lorameta.operator.choice import choose
from lorameta.operator.context import draw
from lorameta.operator.mixture_loss import MixtureLoss
from lorameta.operator.normalized import normalized
from lorameta.operator.sparse import sparse

BOTH = pytest.mark.parametrize("call", [mix, generate_adapter])


@pytest.fixture
def bank(tiny_bank):
    return AdapterBank.open(tiny_bank)


@pytest.fixture
def embedded_rows(monkeypatch):
    """Stands in for the sentence model: the mean of the rows' embeddings, near to those of the first two tasks."""

    def encode(self, examples, *, seed=0):
        rng = np.random.default_rng(3)
        sample = rng.normal(size=(8, 384)).astype(np.float32)
        sample /= np.linalg.norm(sample, axis=1, keepdims=True)
        return DatasetSummary(
            len(examples), None, sample.mean(axis=0), np.zeros((8, 384), dtype=np.float32), 1.0, sample
        )

    monkeypatch.setattr(SentenceEncoder, "__init__", lambda self: None)
    monkeypatch.setattr(SentenceEncoder, "encode", encode)
    return encode(None, [])


def dense(adapter, bank):
    """Σ w ΔW of the bank's own files, and what the adapter does, by module."""
    for module, pair in adapter.modules.items():
        yield sum(w * bank[name].modules[module].delta().astype(float) for name, w in adapter.weights.items()), pair


def test_neural_takes_the_operator_that_the_bank_keeps(tiny_bank, tiny_rows, tmp_path):
    shutil.copytree(tiny_bank, tmp_path / "bank")
    bank = AdapterBank.open(tmp_path / "bank")
    with pytest.raises(BankError, match="lorameta bank fit"):
        mix(tiny_rows, bank=bank, operator="neural")
    found = fit.fit(bank, "js", width=4, iterations=20)
    fit.save(found, bank)
    mixture = mix(tiny_rows, bank=bank, distance="js", operator="neural", temperature=0.5)
    np.testing.assert_allclose(mixture.weights, found.operator.weights(mixture.distances, temperature=0.5))
    assert mixture.report()["operator_details"]["fit_error_neural"] == pytest.approx(
        found.operator.errors["neural"], abs=1e-4
    )
    assert np.count_nonzero(mix(tiny_rows, bank=bank, distance="js", operator="neural", top_k=2).weights) == 2
    with pytest.raises(BankError, match="not the 3 of this bank"):
        mix(tiny_rows, bank=bank.without("opposite"), distance="js", operator="neural")
    given = mix(
        tiny_rows, bank=bank.without("opposite"), distance="js", operator="neural",
        operator_options={"fitted": found.operator},
    )  # fmt: skip
    assert given.weights.sum() == pytest.approx(1)


def test_sparse_rebuilds_the_mean_embedding_whatever_the_distance(bank, tiny_rows, embedded_rows):
    adapter = generate_adapter(
        tiny_rows, bank=bank, distance="js", operator="sparse", combiner="concat", operator_options={"penalty": 0.001}
    )
    weights = sparse(embedded_rows.mean, bank.summaries.means, penalty=0.001)
    assert adapter.weights == pytest.approx({name: w for name, w in zip(bank.ids, weights, strict=True) if w != 0})
    for expected, pair in dense(adapter, bank):
        np.testing.assert_allclose(pair.delta(), expected, atol=1e-5)
    report = adapter.report
    assert report["temperature"] is None
    assert report["operator_details"] == {"penalty": 0.001, "candidates": 4}
    assert report["nearest"] == "animal_sound"


def test_sparse_of_few_candidates_leaves_the_farther_ones_out(bank, tiny_rows, embedded_rows):
    mixture = mix(tiny_rows, bank=bank, distance="js", operator="sparse", operator_options={"candidates": 2})
    far = np.argsort(mixture.distances)[2:]
    np.testing.assert_array_equal(mixture.weights[far], 0)
    assert mixture.weights.sum() == pytest.approx(1)


def test_signed_weights_are_carried_to_the_adapter_and_its_card(bank, tiny_rows, monkeypatch, tmp_path, embedded_rows):
    monkeypatch.setattr("lorameta.operator.sparse.sparse", lambda z, p, *, penalty: np.array([1.5, 0.0, -0.75, 0.25]))
    adapter = generate_adapter(tiny_rows, bank=bank, operator="sparse", combiner="concat")
    assert adapter.weights == {bank.ids[0]: 1.5, bank.ids[2]: -0.75, bank.ids[3]: 0.25}
    assert list(adapter.weights) == [bank.ids[0], bank.ids[2], bank.ids[3]]  # by absolute weight
    assert set(adapter.report["sources"]) == set(adapter.weights)
    assert adapter.report["effective_number"] == pytest.approx(2.5**2 / (1.5**2 + 0.75**2 + 0.25**2), abs=1e-4)
    for expected, pair in dense(adapter, bank):
        np.testing.assert_allclose(pair.delta(), expected, atol=1e-5)
    card = (adapter.save_pretrained(tmp_path / "adapter") / "README.md").read_text()
    assert "- operator: sparse, penalty 0.1, candidates 4" in card
    assert f"| {bank.ids[2]} | -0.750000 |" in card.replace("\\-", "-")  # a dash may be escaped


def test_search_ends_no_worse_than_it_started(bank, tiny_rows):
    pytest.importorskip("cma")
    pytest.importorskip("peft")
    from lorameta.evaluate import Scorer
    from lorameta.operator import mixing_weights

    ticks: list[int] = []
    options = {"evaluations": 6, "candidates": 3, "rows": 5, "penalty": 0.01}
    adapter = generate_adapter(
        tiny_rows, bank=bank, operator="search", operator_options=options, seed=4, progress=ticks.append
    )
    details = adapter.report["operator_details"]
    assert details["evaluations"] == len(ticks) == 6
    assert (details["candidates"], details["rows"], details["penalty"]) == (3, 5, 0.01)
    mixture = mix(tiny_rows, bank=bank, operator="search", operator_options=options, seed=4)
    assert dict(adapter.weights) == {n: w for n, w in zip(bank.ids, mixture.weights, strict=True) if w != 0}
    near = np.argsort(mixture.distances)[:3]
    assert mixture.weights[np.setdiff1d(np.arange(4), near)] == 0
    rows = draw(load_examples(tiny_rows), 5, seed=4, operator="search")
    loss = MixtureLoss(Scorer(bank.base_model), [bank[bank.ids[i]] for i in near], rows)
    start = mixing_weights(mixture.distances[near], "normalized")
    assert details["loss"] == pytest.approx(loss(mixture.weights[near]), abs=1e-4)
    assert details["loss_at_start"] == pytest.approx(loss(start), abs=1e-4)
    assert details["loss_of_base"] == pytest.approx(loss(np.zeros(3)), abs=1e-4)
    found, begun = (loss(w) + 0.01 * np.abs(w).mean() for w in (mixture.weights[near], start))
    assert found <= begun + 1e-6


def test_trial_weighs_by_the_loss_of_each_adapter_alone(bank, tiny_rows):
    pytest.importorskip("peft")
    from lorameta.evaluate import Scorer
    from lorameta.operator import mixing_weights

    ticks: list[int] = []
    mixture = mix(
        tiny_rows, bank=bank, operator="trial", operator_options={"candidates": 3, "rows": 5}, seed=4,
        progress=ticks.append,
    )  # fmt: skip
    near = np.argsort(mixture.distances)[:3]
    rows = draw(load_examples(tiny_rows), 5, seed=4, operator="trial")
    scorer = Scorer(bank.base_model)
    losses = np.array([MixtureLoss(scorer, [bank[bank.ids[i]]], rows)(np.ones(1)) for i in near])
    np.testing.assert_allclose(mixture.weights[near], mixing_weights(losses, "normalized", temperature=0.25), rtol=1e-4)
    assert mixture.weights[np.setdiff1d(np.arange(4), near)] == 0
    assert ticks == [1, 1, 1]
    assert mixture.details == {"candidates": 3, "rows": 5, "lowest_loss": round(losses.min(), 4)}
    coldest = mix(tiny_rows, bank=bank, operator="trial", temperature=0.0, operator_options={"candidates": 3}, seed=4)
    assert sorted(coldest.weights) == [0.0, 0.0, 0.0, 1.0]


def test_a_search_that_does_not_beat_the_base_says_so(bank, tiny_rows, monkeypatch):
    pytest.importorskip("cma")
    pytest.importorskip("peft")
    monkeypatch.setattr(MixtureLoss, "__call__", lambda self, weights: 1.0 + float(np.abs(weights).sum()))
    with pytest.warns(LorametaWarning, match=r"no mixture that search tried beats the base .*the base has 1.000"):
        mix(tiny_rows, bank=bank, operator="search", operator_options={"evaluations": 3})


@pytest.mark.filterwarnings("error::lorameta.errors.LorametaWarning")
def test_a_search_that_beats_the_base_does_not(bank, tiny_rows, monkeypatch):
    pytest.importorskip("cma")
    pytest.importorskip("peft")
    monkeypatch.setattr(MixtureLoss, "__call__", lambda self, weights: 9.0 - float(np.abs(weights).sum()))
    mix(tiny_rows, bank=bank, operator="search", operator_options={"evaluations": 3})


def test_rows_of_a_search_are_drawn_among_the_labelled_ones(tiny_rows):
    examples = load_examples(tiny_rows)
    drawn = draw(examples, 5, seed=1, operator="search")
    assert len({id(example) for example in drawn}) == 5
    assert [examples.index(example) for example in drawn] == sorted(examples.index(example) for example in drawn)
    assert draw(examples, 5, seed=1, operator="search") == drawn != draw(examples, 5, seed=2, operator="search")
    assert draw(examples, 50, seed=1, operator="search") == examples
    bare = [type(example)(example.input, ()) for example in examples]
    assert draw([*bare, *examples[:2]], 5, seed=0, operator="search") == examples[:2]


@BOTH
def test_search_without_labelled_rows_says_so(call, bank):
    with pytest.raises(DataError, match=r"none of the 2 rows has an output.*'search'"):
        call([{"text": "a b c"}, {"text": "d e f"}], bank=bank, operator="search")


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operator": "nearest", "temperature": 0.5}, "'nearest' has no temperature"),
        ({"operator": "uniform", "temperature": 1.0}, "'uniform' has no temperature"),
        ({"operator": "sparse", "temperature": 1.0}, "'sparse' has no temperature"),
        ({"operator": "sparse", "top_k": 2}, "set its option candidates"),
        ({"operator": "search", "top_k": 2}, "set its option candidates"),
        ({"operator": "normalized", "operator_options": {"penalty": 0.1}}, "has no option 'penalty'; it has none"),
        ({"operator_options": {"penalty": 0.1}}, "'normalized' has no option 'penalty'"),
        ({"budget": 0}, "budget must be a positive number of seconds"),
        ({"operator": "trial", "operator_options": {"shortlist": "luck"}}, "shortlist must be one of nearest, halving"),
        ({"operator": "stack", "operator_options": {"ridge": -1.0}}, "ridge must be a finite number from 0 up"),
        ({"operator": "sparse", "operator_options": {"rows": 3}}, "it has penalty, candidates"),
        ({"operator": "sparse", "operator_options": {"penalty": -1}}, "penalty must be"),
        ({"operator": "sparse", "operator_options": {"penalty": "much"}}, "penalty must be"),
        ({"operator": "search", "operator_options": {"evaluations": 0}}, "evaluations must be"),
        ({"operator": "search", "operator_options": {"candidates": 1.5}}, "candidates must be"),
    ],
)
def test_what_would_be_ignored_or_cannot_work_is_refused_before_the_work(call, bank, options, message):
    with pytest.raises(UsageError, match=message):
        call("no/such/file.jsonl", bank=bank, **options)


def test_defaults_that_an_operator_does_not_have_are_no_fault_of_the_caller():
    left = choose("sparse", top_k=8, defaults=(0.3, 8))
    assert (left.temperature, left.top_k, left.operator.needs) == (None, None, ("sentence",))
    assert choose("neural", top_k=8, defaults=(0.3, 8)).temperature == 0.3
    assert choose("trial").temperature == 0.25
    with pytest.raises(UsageError, match="candidates"):
        choose("sparse", top_k=7, defaults=(0.3, 8))


def test_auto_combines_by_delta_what_was_found_by_running_the_model(bank, tiny_rows):
    pytest.importorskip("peft")
    found = {name: mix(tiny_rows, bank=bank, operator=name) for name in ("normalized", "sparse", "trial")}
    assert found["trial"].combiner(bank, "auto") == "delta"
    from lorameta.combiner.auto import choose

    for name in ("normalized", "sparse"):
        used = [bank[i] for i, _, weight in found[name].ranked() if weight != 0]
        assert found[name].combiner(bank, "auto") == choose(used)
        assert found[name].combiner(bank, "concat") == "concat"


def test_a_new_operator_is_a_module_and_an_entry(bank, tiny_rows, monkeypatch):
    """Its options are checked and shown on the command line, and its weights arrive in the mixture."""
    module = ModuleType("lorameta.operator.farthest")
    module.weigh = lambda context: (
        normalized(-context.distances, temperature=1 / context.options["sharpness"]),
        {"sharpness": context.options["sharpness"]},
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = Operator("farthest", "the farthest", options={"sharpness": Option("how sharp", 2.0, least=0.5)})
    monkeypatch.setitem(OPERATORS, "farthest", entry)
    mixture = mix(tiny_rows, bank=bank, operator="farthest", operator_options={"sharpness": 4.0})
    np.testing.assert_allclose(mixture.weights, normalized(-mixture.distances, temperature=0.25))
    assert mixture.report()["operator_details"] == {"sharpness": 4.0}
    with pytest.raises(UsageError, match=r"sharpness must be a finite number from 0\.5 up; got 0\.1"):
        mix(tiny_rows, bank=bank, operator="farthest", operator_options={"sharpness": 0.1})

    got = []

    @with_operators
    def command(weighing: Any) -> None:
        got.append(weighing)

    app = typer.Typer()
    app.command()(command)
    found = CliRunner().invoke(app, ["--operator", "farthest", "--sharpness", "3"])
    assert (found.exit_code, got) == (0, [{"operator": "farthest", "operator_options": {"sharpness": 3.0}}])
    assert "For farthest (2)." in CliRunner().invoke(app, ["--help"]).output


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-9, 12345.678])
@pytest.mark.parametrize("count", [3, 7, 121])
def test_equal_distances_get_equal_weights_to_the_last_bit(value, count):
    distances = np.full(count, value)
    for name in ("attentional", "normalized", "uniform"):
        np.testing.assert_array_equal(mixing_weights(distances, name), np.full(count, 1 / count))
    distances[:2] = value * 2
    for name in ("attentional", "normalized"):
        assert len(set(mixing_weights(distances, name, temperature=max(value, 1)).tolist())) == 2
