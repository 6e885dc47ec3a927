"""Batching: which tokens carry the loss, checked against tokenising prompt and answer apart."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors  # noqa: E402
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast  # noqa: E402

from lorameta.base_model.batch import answer_losses, by_length, collate, encode_example  # noqa: E402
from lorameta.data import Example  # noqa: E402

PROMPTS = [
    Example("Definition: Say yes or no.\n\nInput: is it ñ?\n\nOutput:", ("yes",)),
    Example("a prompt that ends in a space ", ("answer", "other")),
    Example("one\n", ("two words",)),
    Example("no answer", ()),
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that starts every text with a BOS, as Mistral's does."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="module")
def model() -> MistralForCausalLM:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=259,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return MistralForCausalLM(config).eval()


@pytest.mark.parametrize("example", PROMPTS)
def test_the_answer_tokens_decode_to_the_answer(tokenizer, example):
    encoded = encode_example(tokenizer, example)
    assert encoded.ids[0] == tokenizer.bos_token_id
    assert encoded.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(encoded.ids[encoded.answer_start : -1]).strip() == example.output
    # a space at the end belongs to the answer, in training as in generation
    assert tokenizer.decode(encoded.ids[1 : encoded.answer_start]) == example.input.rstrip(" ")


def test_a_long_prompt_is_shortened_and_the_answer_kept(tokenizer):
    encoded = encode_example(tokenizer, Example("x" * 50, ("answer",)), max_length=20)
    assert len(encoded.ids) == 20
    assert encoded.ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(encoded.ids[encoded.answer_start : -1]) == " answer"


def test_padding_changes_no_loss(tokenizer, model):
    encoded = [encode_example(tokenizer, example) for example in PROMPTS[:3]]
    together = answer_losses(model, *collate(encoded, tokenizer.pad_token_id))
    alone = torch.cat([answer_losses(model, *collate([one], tokenizer.pad_token_id)) for one in encoded])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_losses_are_those_of_the_whole_model(tokenizer, model):
    """Oracle: the model's own loss with -100 on every token before the answer."""
    encoded = encode_example(tokenizer, PROMPTS[0])
    ids = torch.tensor([encoded.ids])
    labels = ids.clone()
    labels[:, : encoded.answer_start] = -100
    expected = model(input_ids=ids, labels=labels).loss
    found = answer_losses(model, *collate([encoded], tokenizer.pad_token_id))
    assert found.numel() == len(encoded.ids) - encoded.answer_start
    torch.testing.assert_close(found.mean(), expected)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("Gemma2", {"final_logit_softcapping": 0.05, "head_dim": 8}),
        ("Granite", {"logits_scaling": 8.0}),
        ("Cohere", {"logit_scale": 0.0625}),
    ],
)
def test_what_a_model_does_behind_its_head_counts(tokenizer, architecture, options):
    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=259, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0, bos_token_id=1, eos_token_id=2, **options,
    )  # fmt: skip
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).eval()
    encoded = [encode_example(tokenizer, example) for example in PROMPTS[:3]]
    ids, attention, answers = collate(encoded, tokenizer.pad_token_id)
    logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1]
    labels = ids[:, 1:].masked_fill(~answers[:, 1:], -100)
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none")
    torch.testing.assert_close(answer_losses(model, ids, attention, answers), expected[answers[:, 1:]])
    # without it the losses would differ: the option is not idle
    hidden = model.get_decoder()(input_ids=ids, attention_mask=attention).last_hidden_state[:, :-1]
    bare = torch.nn.functional.cross_entropy(model.lm_head(hidden).transpose(1, 2), labels, reduction="none")
    assert not torch.allclose(bare[answers[:, 1:]], expected[answers[:, 1:]], rtol=1e-3)


def test_the_head_is_whole_after_a_failure(tokenizer, model):
    ids, attention, answers = collate([encode_example(tokenizer, PROMPTS[0])], tokenizer.pad_token_id)
    with pytest.raises(IndexError):
        answer_losses(model, ids + 1000, attention, answers)
    assert model(input_ids=ids).logits.shape == (*ids.shape, 259)


def test_batches_are_a_partition_with_the_longest_first():
    lengths = [3, 9, 1, 9, 4, 7]
    batches = list(by_length(lengths, 4))
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    assert batches == [[1, 3, 5, 4], [0, 2]]
