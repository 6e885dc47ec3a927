"""Scores against hand-counted values, and the scorer against transformers and PEFT used by hand."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from lorameta.adapter import Adapter, LoraPair  # noqa: E402
from lorameta.bank import AdapterBank  # noqa: E402
from lorameta.data import Example  # noqa: E402
from lorameta.errors import BankError, UsageError  # noqa: E402
from lorameta.evaluate import Scorer, evaluate, text_scores  # noqa: E402

ROWS = [
    Example(f"Definition: copy.\n\nInput: {w}\n\nOutput:", (w,)) for w in ("red", "a blue cup", "x", "green tea leaves")
]


@pytest.fixture(scope="module")
def base(tiny_bank) -> str:
    return AdapterBank.open(tiny_bank).base_model


@pytest.fixture(scope="module")
def scorer(base) -> Scorer:
    return Scorer(base, batch_size=3, max_new_tokens=6)


def random_adapter(base: str, size: float) -> Adapter:
    model = AutoModelForCausalLM.from_pretrained(base)
    rng = np.random.default_rng(0)
    modules = {
        name: LoraPair(
            rng.normal(size=(2, layer.in_features)).astype(np.float32),
            rng.normal(size=(layer.out_features, 2)).astype(np.float32),
            size,
        )
        for name, layer in model.named_modules()
        if name.endswith(("q_proj", "down_proj"))
    }
    return Adapter(modules, base)


def test_scores_of_counted_cases():
    found = text_scores(
        [" yes\n", "no", "the red cup", "cats", "ye", ""],
        [["yes"], ["yes", "no"], ["the blue cup"], ["cat"], ["yes"], ["yes"]],
    )
    # Any reference counts, as a whole; stemming is ROUGE's alone.
    assert found["exact_match"] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert found["rouge_l"] == pytest.approx([1.0, 1.0, 2 / 3, 1.0, 0.0, 0.0])


def test_scores_need_as_many_references_as_predictions():
    with pytest.raises(UsageError, match="2 predictions"):
        text_scores(["a", "b"], [["a"]])


def test_predictions_are_those_of_plain_greedy_decoding_one_row_at_a_time(scorer, base):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    expected = []
    for row in ROWS:
        inputs = tokenizer(row.input, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        expected.append(text.strip().split("\n", 1)[0].strip())
    assert scorer.score(ROWS).predictions == expected
    assert scorer.generate([row.input for row in ROWS]) == expected


def test_an_adapter_changes_the_loss_as_its_dense_update_does(scorer, base):
    """Oracle: the base with ΔW = s·B·A added to its weights by hand."""
    adapter = random_adapter(base, 0.05)
    merged = Scorer(base, batch_size=3, max_new_tokens=6)
    with torch.no_grad():
        for name, pair in adapter.modules.items():
            merged.model.get_submodule(name).weight += torch.from_numpy(pair.scaling * pair.B @ pair.A)
    before = scorer.score(ROWS)
    found, expected = scorer.score(ROWS, adapter), merged.score(ROWS)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.predictions == expected.predictions
    assert abs(found.loss - before.loss) > 1e-3
    assert scorer.score(ROWS).as_dict(predictions=True) == before.as_dict(predictions=True)  # the base is as it was


def assert_same(found, expected):
    assert found.predictions == expected.predictions
    assert found.by_row["tokens"] == expected.by_row["tokens"]
    np.testing.assert_allclose(found.by_row["loss"], expected.by_row["loss"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [0.0, 0.05])
@pytest.mark.parametrize("most", [1, 6])
def test_drafts_score_as_passes_of_their_own_do(base, monkeypatch, size, most):
    """Rows with answers that the model gives, gives at first, and does not give; of several lines as well."""
    scorer = Scorer(base, batch_size=3, max_new_tokens=most)
    adapter = random_adapter(base, size)
    said = scorer.generate([row.input for row in ROWS], adapter)
    rows = [Example(row.input, (answer or "x",)) for row, answer in zip(ROWS, said, strict=True)]
    rows += [Example(f"{rows[1].input} ", (rows[1].output[:3] + " no",)), Example(rows[2].input, ("two\nlines",))]
    for examples in (rows[:-1], rows, rows[:1]):
        assert scorer.drafts
        found = scorer.score(examples, adapter)
        with monkeypatch.context() as without:
            without.setattr(scorer, "drafts", False)
            assert_same(found, scorer.score(examples, adapter))


@pytest.mark.slow
def test_drafts_score_the_help_desk_as_passes_of_their_own_do(monkeypatch):
    """The default bank's base, alone and with a mixture."""
    from lorameta import generate_adapter, load_examples
    from lorameta.examples import path

    bank, rows = AdapterBank.open(), load_examples(path("helpdesk_test.jsonl"))
    scorer = Scorer(bank.base_model, revision=bank.base_revision, max_new_tokens=12)
    assert scorer.drafts
    for adapter in (None, generate_adapter(path("helpdesk_train.jsonl"), bank=bank, operator="normalized")):
        found = scorer.score(rows, adapter)
        with monkeypatch.context() as without:
            without.setattr(scorer, "drafts", False)
            expected = scorer.score(rows, adapter)
        assert_same(found, expected)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)


def test_a_saved_directory_scores_as_the_adapter_in_memory(scorer, base, tmp_path):
    adapter = random_adapter(base, 0.05)
    path = adapter.save_pretrained(tmp_path / "adapter")
    assert scorer.score(ROWS, path).loss == pytest.approx(scorer.score(ROWS, adapter).loss, rel=1e-6)


def test_evaluate_keeps_the_order_and_reports_progress(base):
    seen = []
    found = evaluate(
        ROWS, base, {"base": None, "mine": random_adapter(base, 0.05)}, max_new_tokens=2, progress=seen.append
    )
    assert list(found) == ["base", "mine"]
    assert sum(seen) == 2 * len(ROWS)
    assert all(scores.rows == len(ROWS) and 0 <= scores.exact_match <= scores.rouge_l <= 1 for scores in found.values())


@pytest.mark.parametrize(("rows", "message"), [([], "no rows"), ([Example("a", ())], "1 of 1 rows have no output")])
def test_rows_that_cannot_be_scored_are_refused(scorer, rows, message):
    with pytest.raises(UsageError, match=message):
        scorer.score(rows)


def test_a_directory_without_an_adapter_is_a_bank_error(scorer, tmp_path):
    with pytest.raises(BankError, match=str(tmp_path)):
        scorer.score(ROWS, tmp_path)


def test_bfloat16_rounds_the_weights_and_not_the_rotary_frequencies(tiny_bank):
    import torch

    single, half = (Scorer(tiny_bank / "base", dtype=dtype).model for dtype in ("float32", "bfloat16"))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    buffers = dict(single.named_buffers())
    assert buffers
    for name, buffer in half.named_buffers():
        assert torch.equal(buffer, buffers[name])
