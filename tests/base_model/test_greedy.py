"""Answers and losses by drafts: those of decoding token by token without a cache, one row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from lorameta.base_model.batch import EncodedExample, answer_losses, collate  # noqa: E402
from lorameta.base_model.greedy import Decoding, answer, draft, drafts  # noqa: E402
from tests.export.models import CONFIGS, tiny_model  # noqa: E402

SHARED = [1, 5, 6, 7, 8, 9, 10, 11, 12]
PROMPTS = [[*SHARED, 20], [*SHARED, 21, 22, 23, 24], [*SHARED, 25, 26], [*SHARED, 27], [*SHARED, 28, 29, 30]]
DECODING = Decoding(ends=[2], breaks=[], most=6, positions=64, pad=0, batch_size=3)
#: With learned positions, positions added to attention, and parallel blocks.
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2LMHeadModel": ("GPT2Config", dict(n_embd=32, n_layer=2, n_head=4, n_positions=64)),
    "OPTForCausalLM": (
        "OPTConfig",
        dict(hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64),
    ),
    "GPTNeoXForCausalLM": (
        "GPTNeoXConfig",
        dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4),
    ),
}


WINDOWED = ("Gemma2ForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM", "Starcoder2ForCausalLM")


def random_model(architecture: str) -> Any:
    if architecture in CONFIGS:
        return tiny_model(architecture, sliding_window=None) if "Mistral" in architecture else tiny_model(architecture)
    name, options = OTHERS[architecture]
    torch.manual_seed(0)
    tokens = dict(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    config = getattr(transformers, name)(**tokens, **options)
    return getattr(transformers, architecture)(config).eval()


def by_hand(model: Any, prompt: list[int], decoding: Decoding = DECODING) -> list[int]:
    ids, stops = torch.tensor([prompt]), {*decoding.ends, *decoding.breaks}
    while ids.shape[1] < len(prompt) + decoding.most:
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
        if int(ids[0, -1]) in stops:
            break
    return ids[0, len(prompt) :].tolist()


def expecting(model: Any, prompts: Sequence[list[int]]) -> list[EncodedExample]:
    """Rows whose answer is what the model says, what it says at first, something else, and nothing."""
    rows = []
    for number, prompt in enumerate(prompts):
        said = [token for token in by_hand(model, prompt) if token != 2]
        kept = (said, [*said[:2], 40, 41], [50], [], [*said[:1], 42])[number % 5]
        rows.append(EncodedExample([*prompt, *kept, 2], len(prompt)))
    return rows


def collected(model: Any, rows: Sequence[EncodedExample], decoding: Decoding = DECODING) -> tuple[list, list]:
    answers, losses = [None] * len(rows), [None] * len(rows)
    with torch.no_grad():
        for batch, found, row_losses in draft(model, rows, decoding):
            for place, index in enumerate(batch):
                answers[index], losses[index] = found[place], row_losses[place]
    return answers, losses


@pytest.mark.parametrize("architecture", [*CONFIGS, *OTHERS])
@torch.no_grad()
def test_answers_and_losses_of_every_architecture(architecture):
    model = random_model(architecture)
    if not drafts(model):
        assert architecture in WINDOWED
        return
    rows = expecting(model, PROMPTS)
    answers, losses = collected(model, rows)
    assert answers == [by_hand(model, prompt) for prompt in PROMPTS]
    for row, found in zip(rows, losses, strict=True):
        torch.testing.assert_close(found, answer_losses(model, *collate([row], 0)), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_rows_without_a_common_beginning_and_one_row_alone():
    model = random_model("LlamaForCausalLM")
    prompts = [[1, 20, 21], [1, 30, 31, 32, 33], [1]]
    assert collected(model, expecting(model, prompts))[0] == [by_hand(model, prompt) for prompt in prompts]
    assert collected(model, expecting(model, prompts[:1]))[0] == [by_hand(model, prompts[0])]


@torch.no_grad()
def test_line_breaks_and_the_last_position_end_an_answer():
    model = random_model("LlamaForCausalLM")
    said = by_hand(model, PROMPTS[1])
    broken = replace(DECODING, breaks=[said[1]])
    assert collected(model, expecting(model, PROMPTS), broken)[0] == [by_hand(model, p, broken) for p in PROMPTS]
    full = replace(DECODING, positions=len(PROMPTS[1]) + 2)
    answers, _ = collected(model, expecting(model, PROMPTS), full)
    assert [len(found) for found in answers] == [
        min(len(by_hand(model, prompt)), full.positions - len(prompt)) for prompt in PROMPTS
    ]
    assert len(answers[1]) == 2


@torch.no_grad()
def test_a_right_draft_takes_one_pass_and_the_common_beginning_another():
    model = random_model("LlamaForCausalLM")
    tokens: list[int] = []
    model.get_decoder().register_forward_pre_hook(
        lambda _, args, given: tokens.append(given["input_ids"].numel()), with_kwargs=True
    )
    ending = replace(DECODING, ends=[2, *{by_hand(model, prompt)[2] for prompt in PROMPTS}])
    rows = [EncodedExample([*prompt, *by_hand(model, prompt, ending)], len(prompt)) for prompt in PROMPTS[:3]]
    tokens.clear()
    answers, _ = collected(model, rows, ending)
    assert answers == [row.ids[row.answer_start :] for row in rows]
    longest = max(len(row.ids) for row in rows) - len(SHARED)
    assert tokens == [len(SHARED), 3 * longest]


def test_models_that_allow_no_draft():
    model = random_model("LlamaForCausalLM")
    assert drafts(model)
    model.generation_config.repetition_penalty = 1.1
    assert not drafts(model)
    windowed = tiny_model("MistralForCausalLM", sliding_window=8)
    assert not drafts(windowed)


class Padding:
    """As much of a tokenizer as transformers' `generate` is given here."""

    def pad(self, encoded: dict, *, padding_side: str, return_tensors: str) -> dict:
        assert (padding_side, return_tensors) == ("left", "pt")
        rows = encoded["input_ids"]
        width = max(map(len, rows))
        return {
            "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in rows]),
            "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        }


@pytest.mark.parametrize("drafted", [True, False])
@torch.no_grad()
def test_a_prompt_that_is_another_one_in_its_row_is_answered_on_its_own(drafted):
    model = random_model("LlamaForCausalLM")
    rows = expecting(model, PROMPTS)
    prompts = [list(prompt) for prompt in PROMPTS]
    prompts[2] = [*prompts[2][:-1], 33]
    answers, losses = {}, {}
    for batch, found, row_losses in answer(model, Padding(), rows, prompts, DECODING, drafted=drafted, losses=True):
        for kept, values in ((answers, found), (losses, row_losses)):
            for place, index in enumerate(batch if values is not None else ()):
                assert index not in kept
                kept[index] = values[place]
    for index, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        said = by_hand(model, prompt)
        assert answers[index][: len(said)] == said
        torch.testing.assert_close(losses[index], answer_losses(model, *collate([row], 0)), rtol=1e-4, atol=1e-4)
