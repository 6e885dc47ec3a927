"""Examples → token ids and labels: one place that says which tokens a model is trained and scored on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorameta.data import Example, join_prompt
from lorameta.errors import LorametaWarning

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
    # A space between prompt and answer is the answer's, whether it is written in the prompt or put there by us.
    prompt_end = len(example.input) - (bool(example.output) and example.input[-1:] == " ")
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


def encode_rows(
    tokenizer: Any, examples: Sequence[Example], limit: int | None = None
) -> tuple[list[EncodedExample], int]:
    """Tokenise rows as `encode_example` does, and count those that were longer than `limit` tokens and were cut."""
    rows = [encode_example(tokenizer, example) for example in examples]
    if limit is None:
        return rows, 0
    long = [index for index, row in enumerate(rows) if len(row.ids) > limit]
    for index in long:
        rows[index] = encode_example(tokenizer, examples[index], max_length=limit)
    return rows, len(long)


def encode_prompts(tokenizer: Any, prompts: Sequence[str], limit: int | None = None) -> tuple[list[list[int]], int]:
    """Tokenise prompts as they stand before an answer in training, and count those that were cut to `limit` tokens.

    A prompt alone has other tokens than the same prompt with an answer behind it: the space that it ends in belongs to
    the first token of the answer, and line breaks are merged.

    Returns
    -------
    list of list of int
        With the tokenizer's special tokens (BOS) in front.
    int
        Prompts of more than `limit` tokens: they lose tokens behind their BOS.
    """
    found, cut = [], 0
    for prompt in prompts:
        row = encode_example(tokenizer, Example(prompt, ("x",)))
        ids = row.ids[: row.answer_start] or row.ids[:1]
        if limit is not None and len(ids) > limit:
            ids, cut = [*ids[:1], *ids[len(ids) - limit + 1 :]], cut + 1
        found.append(ids)
    return found, cut


def positions_of(config: Any) -> int | None:
    """Return how many tokens a base reads at once; None if its configuration sets no limit."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def warn_of_cut(cut: int, rows: int, limit: int | None, doing: str) -> None:
    """Warn, in the same words everywhere, that rows lost their beginning; nothing happens if `cut` is 0."""
    if cut:
        message = (
            f"{cut} of {rows} rows have more than the {limit} tokens that can be read in {doing}: their prompts lose "
            "their beginning, the answers are whole"
        )
        warnings.warn(message, LorametaWarning, stacklevel=3)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return all tokens that end an answer: the tokenizer's, and those of the base's generation settings."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = [tokenizer.eos_token_id, *(ends if isinstance(ends, (list, tuple)) else [ends])]
    return list(dict.fromkeys(int(end) for end in found if end is not None))


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
    """Yield the indices in batches of similar length, longest first: little padding, and memory trouble shows at
    once."""
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
    """Return the logits (tokens, vocabulary) at the positions that predict an answer token, rows one after the other.

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
    with head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][wanted], *inputs[1:])):
        return model(input_ids=ids, attention_mask=attention, **more).logits


def decoder_of(model: Any) -> Any:
    """Return the decoder stack below the language-model head, also inside a PEFT wrapper."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_decoder() if hasattr(inner, "get_decoder") else inner.base_model
