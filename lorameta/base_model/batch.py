"""Examples → token ids and labels: one place that says which tokens a model is trained and scored on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorameta.data import Example, join_prompt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EncodedExample:
    """Token ids of prompt, answer and end token.

    Attributes
    ----------
    ids : list of int
        The tokenizer's special tokens (BOS), the prompt, the answer, EOS.
    answer_start : int
        Index of the first token that belongs to the answer; the loss is on `ids[answer_start:]`.
    """

    ids: list[int]
    answer_start: int


def encode_example(tokenizer: Any, example: Example, *, max_length: int | None = None) -> EncodedExample:
    """Tokenise `join_prompt(input, output)` as one text, so that prompt and answer meet as they do in generation.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        It must know character offsets (a fast tokenizer) and have an end-of-sequence token.
    example : Example
        The first reference is the answer.
    max_length : int, optional
        Longest sequence in tokens; a longer prompt loses tokens behind its BOS, the answer is kept.

    Returns
    -------
    EncodedExample
    """
    encoded = tokenizer(join_prompt(example.input, example.output), return_offsets_mapping=True)
    prompt_end = len(example.input)
    ids = list(encoded["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    # A special token has the empty span (0, 0): it ends at 0 and never counts as answer.
    start = next((i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > prompt_end), len(ids))
    ids.append(tokenizer.eos_token_id)
    if max_length is not None and len(ids) > max_length:
        surplus = min(len(ids) - max_length, max(0, start - 1))
        ids, start = ids[:1] + ids[1 + surplus :], start - surplus
        ids = ids[:max_length]
    return EncodedExample(ids, start)


def collate(examples: Sequence[EncodedExample], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded `input_ids` and `attention_mask` (batch, length), and the boolean mask of answer tokens."""
    import torch

    length = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), length), pad)
    attention = torch.zeros((len(examples), length), dtype=torch.long)
    answers = torch.zeros((len(examples), length), dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        attention[row, : len(example.ids)] = 1
        answers[row, example.answer_start : len(example.ids)] = True
    return ids, attention, answers


def by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first: little padding, and memory trouble shows at once."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def answer_losses(model: Any, ids: torch.Tensor, attention: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood in nats of every answer token, as one flat tensor; see :func:`answer_logits`."""
    from torch.nn.functional import cross_entropy

    logits = answer_logits(model, ids, attention, answers)
    return cross_entropy(logits.float(), ids[:, 1:][answers[:, 1:]], reduction="none")


def answer_logits(
    model: Any, ids: torch.Tensor, attention: torch.Tensor, answers: torch.Tensor, **more: Any
) -> torch.Tensor:
    """Logits (tokens, vocabulary) at the positions that predict an answer token, rows one after the other.

    Only these are formed: in a small model the vocabulary is most of the cost. What the model makes of them behind its
    head (the cap of Gemma-2, the scales of Granite and Cohere) stays its own.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    ids, attention, answers : torch.Tensor of shape (rows, length)
        As of :func:`collate`; `attention` is longer where `more` has the ``past_key_values`` of a common prefix.
    """
    wanted = answers[:, 1:]
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][wanted], *inputs[1:]))
    try:
        return model(input_ids=ids, attention_mask=attention, **more).logits
    finally:
        hook.remove()


def decoder_of(model: Any) -> Any:
    """The decoder stack below the language-model head, also inside a PEFT wrapper."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_decoder() if hasattr(inner, "get_decoder") else inner.base_model
