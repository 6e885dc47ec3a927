"""The loss of a mixture: against the base with the dense sum written into its weights, and against the scorer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from lorameta.adapter import Adapter, LoraPair
from lorameta.bank import AdapterBank
from lorameta.combiner import combine
from lorameta.data import Example, load_examples
from lorameta.errors import BankError, DataError, UsageError
from lorameta.operator.mixture_loss import MixtureLoss

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
WEIGHTS = np.array([0.7, -0.4, 0.0, 1.2])


@pytest.fixture(scope="module")
def bank(tiny_bank):
    return AdapterBank.open(tiny_bank)


@pytest.fixture(scope="module")
def scorer(bank):
    from lorameta.evaluate import Scorer

    return Scorer(bank.base_model, batch_size=5)


@pytest.fixture(scope="module")
def adapters(bank):
    """Those of the bank, one of them without a module and of another rank and scaling elsewhere."""
    found = [bank[name] for name in bank]
    rng = np.random.default_rng(0)
    modules = dict(found[1].modules)
    first, second = list(modules)[:2]
    del modules[first]
    d_out, d_in = modules[second].shape
    modules[second] = LoraPair(rng.normal(0, 0.3, (2, d_in)), rng.normal(0, 0.3, (d_out, 2)), 0.7)
    return [found[0], Adapter(modules, found[1].base_model, name="odd"), *found[2:]]


@pytest.fixture
def examples(tiny_rows):
    return load_examples(tiny_rows)


def state(scorer):
    return {name: value.clone() for name, value in scorer.model.state_dict().items()}


@pytest.mark.parametrize("weights", [WEIGHTS, np.zeros(4), np.array([0, 1.0, 0, 0])])
def test_it_is_the_loss_with_the_dense_sum_in_the_weights(scorer, adapters, examples, weights):
    """The oracle adds Σ w ΔW to the base's own matrices and asks transformers for the loss, row by row."""
    found = MixtureLoss(scorer, adapters, examples)(weights)
    before = state(scorer)
    try:
        for adapter, weight in zip(adapters, weights, strict=True):
            for name, pair in adapter.modules.items():
                dense = weight * pair.scaling * pair.B.astype(np.float64) @ pair.A.astype(np.float64)
                scorer.model.get_submodule(name).weight.data += torch.from_numpy(dense).float()
        total, tokens = 0.0, 0
        for example in examples:
            ids = scorer.tokenizer(f"{example.input} {example.output}")["input_ids"] + [scorer.tokenizer.eos_token_id]
            start = len(scorer.tokenizer(example.input)["input_ids"])
            with torch.no_grad():
                logits = scorer.model(torch.tensor([ids])).logits[0].double()
            losses = -torch.log_softmax(logits, dim=-1)[torch.arange(len(ids) - 1), ids[1:]]
            total, tokens = total + losses[start - 1 :].sum().item(), tokens + len(ids) - start
    finally:
        scorer.model.load_state_dict(before)
    assert found == pytest.approx(total / tokens, rel=1e-5)


def test_it_is_the_loss_that_the_scorer_finds_for_the_concatenated_adapter(scorer, adapters, examples):
    pytest.importorskip("rouge_score")
    modules, errors = combine(adapters, WEIGHTS, method="concat")
    assert set(errors.values()) == {0.0}
    scores = scorer.score(examples, Adapter(modules, scorer.base_model))
    assert MixtureLoss(scorer, adapters, examples)(WEIGHTS) == pytest.approx(scores.loss, rel=1e-5)


def test_the_base_is_left_as_it_was(scorer, adapters, examples):
    before = state(scorer)
    loss = MixtureLoss(scorer, adapters, examples)
    assert loss(WEIGHTS) != pytest.approx(loss(np.zeros(4)), rel=1e-3)
    assert loss(WEIGHTS) == loss(WEIGHTS)
    after = scorer.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(module._forward_hooks for module in scorer.model.modules())


def test_a_failure_leaves_the_base_as_it_was(scorer, adapters, examples, monkeypatch):
    loss = MixtureLoss(scorer, adapters, examples)
    monkeypatch.setattr("lorameta.operator.passes.answer_logits", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss(WEIGHTS)
    assert not any(module._forward_hooks for module in scorer.model.modules())


def test_adapters_with_a_common_a_are_mixed_as_those_that_differ(scorer, adapters, examples):
    """One A for all, and rank and scaling alike: the same numbers as with A's that merely look different."""
    first = adapters[0]

    def with_first_a(found: Adapter) -> Adapter:
        kept = {m: LoraPair(first.modules[m].A, p.B[:, : first.modules[m].rank], 0.5) for m, p in found.modules.items()}
        return Adapter(kept, "base")

    shared = [with_first_a(found) for found in (adapters[0], adapters[2], adapters[3])]
    mirrored = [
        Adapter({m: LoraPair(-p.A, -p.B, p.scaling) for m, p in shared[0].modules.items()}, "base"),
        *shared[1:],
    ]
    weights = np.array([0.7, -0.4, 1.2])
    ours, theirs = MixtureLoss(scorer, shared, examples), MixtureLoss(scorer, mirrored, examples)
    assert {type(found).__name__ for found in ours.factors.modules.values()} == {"Shared"}
    assert {type(found).__name__ for found in theirs.factors.modules.values()} == {"Stacked"}
    np.testing.assert_allclose(ours.measure(weights).losses, theirs.measure(weights).losses, rtol=1e-4)
    np.testing.assert_allclose(ours.measure(ours.one(1)).losses, theirs.measure(theirs.one(1)).losses, rtol=1e-4)


def test_the_logits_that_are_kept_give_the_whole_loss(scorer, adapters, examples, monkeypatch):
    """Also where the answers' tokens are more than the columns, down to none but the answer's own."""
    loss = MixtureLoss(scorer, adapters, examples)
    expected = loss.measure(WEIGHTS)
    for columns in (256, 3, 0):
        monkeypatch.setattr("lorameta.operator.mixture_loss.VOCABULARY", columns)
        logits = loss.logits(WEIGHTS)
        assert logits.shape[1] <= columns + 2
        found = np.bincount(loss.owner, logsumexp(logits, axis=1) - logits[:, 0])
        np.testing.assert_allclose(found, expected.losses, rtol=1e-5)
    assert expected.tokens.sum() == len(loss.owner)


def test_a_common_beginning_of_the_prompts_is_run_once(scorer, adapters, examples, monkeypatch):
    loss = MixtureLoss(scorer, adapters, examples)
    assert len(loss.passes.prefix) >= 8
    monkeypatch.setattr("lorameta.base_model.prefix_cache.LEAST", 10**6)
    whole = MixtureLoss(scorer, adapters, examples)
    assert whole.passes.prefix == []
    assert loss.passes.tokens == whole.passes.tokens - (len(examples) - 1) * len(loss.passes.prefix)
    np.testing.assert_allclose(loss.measure(WEIGHTS).losses, whole.measure(WEIGHTS).losses, rtol=1e-4)
    apart = [*examples[:2], Example("Another prompt altogether:", ("no",))]
    monkeypatch.setattr("lorameta.base_model.prefix_cache.LEAST", 8)
    assert MixtureLoss(scorer, adapters, apart).passes.prefix == []


def test_exact_are_the_rows_that_greedy_decoding_answers(scorer, adapters, examples):
    """Rows answered by what the model says anyway, and one that it does not say."""
    loss = MixtureLoss(scorer, adapters, examples)
    prompts = [example.input for example in examples[:4]]
    said = []
    for prompt in prompts:
        ids = scorer.tokenizer(prompt, return_tensors="pt")["input_ids"]
        start = ids.shape[1]
        with torch.no_grad():
            for _ in range(3):
                ids = torch.cat([ids, scorer.model(ids).logits[:, -1:].argmax(-1)], dim=1)
        said.append(ids[0, start:].tolist())
    rows = loss.on([Example(prompt, ("x",)) for prompt in prompts])
    passes = rows.passes
    for batch, ((ids, attention, answers), places) in enumerate(passes.batches):
        width = int(answers.sum(dim=1)[0])
        assert (answers.sum(dim=1) == width).all()
        order = passes.owner[places[::width]]
        for row, original in enumerate(order):
            tokens = torch.tensor((said[original] + [0])[:width] if original else [5] * width)
            ids[row, answers[row]] = tokens
            passes.targets[places[row * width : (row + 1) * width]] = tokens.numpy()
        passes.batches[batch] = ((ids, attention, answers), places)
    assert rows.measure(np.zeros(4)).exact.tolist() == [False, True, True, True]


def test_what_cannot_be_measured_is_refused(scorer, adapters, examples):
    with pytest.raises(UsageError, match="no adapter"):
        MixtureLoss(scorer, [], examples)
    with pytest.raises(DataError, match="no rows"):
        MixtureLoss(scorer, adapters, [])
    with pytest.raises(DataError, match="rows 2, 3 of 3 have no output"):
        MixtureLoss(scorer, adapters, [examples[0], Example("a", ()), Example("b", ())])
    loss = MixtureLoss(scorer, adapters, examples)
    for bad in (np.ones(3), np.array([1, 2, 3, np.nan])):
        with pytest.raises(UsageError, match="4 finite weights"):
            loss(bad)


def test_adapters_of_another_base_are_all_named(scorer, examples):
    name = next(name for name, module in scorer.model.named_modules() if name.endswith("q_proj"))
    wrong = Adapter({name: LoraPair(np.ones((1, 3)), np.ones((4, 1)))}, "x", name="wrong")
    strange = Adapter({"no.such.layer": LoraPair(np.ones((1, 3)), np.ones((4, 1)))}, "x", name="strange")
    with pytest.raises(BankError) as caught:
        MixtureLoss(scorer, [wrong, strange], examples)
    assert f"wrong: it changes {name} (4, 3), which is (32, 32) in the base" in str(caught.value)
    assert "strange: it changes no.such.layer (4, 3), which is not in the base" in str(caught.value)
