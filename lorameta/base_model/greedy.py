"""Greedy answers of a model to rows, and the losses of the answers that they should have, in few passes.

One pass runs a prompt with its expected answer. It gives the loss, and it shows how far greedy decoding would have
written the same tokens: only what follows the first other token is decoded step by step (speculative decoding with the
expected answer as the draft; Leviathan, Kalman, Matias, arXiv 2211.17192). The beginning that all prompts share is run
once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorameta.base_model.batch import EncodedExample, answer_logits, answer_losses, by_length, collate
from lorameta.base_model.prefix_cache import PrefixCache, caches, shared_prompt

if TYPE_CHECKING:
    import torch

#: Entries of a generation configuration that leave greedy decoding what it is.
_HARMLESS = frozenset(
    "transformers_version _from_model_config bos_token_id eos_token_id pad_token_id decoder_start_token_id do_sample "
    "use_cache temperature top_k top_p min_p typical_p epsilon_cutoff eta_cutoff max_length max_new_tokens "
    "return_dict_in_generate output_attentions output_hidden_states output_scores output_logits".split()
)


@dataclass(frozen=True)
class Decoding:
    """How answers are decoded.

    Attributes
    ----------
    ends : list of int
        Tokens that end an answer.
    breaks : list of int
        Tokens that end it as well: those with a line break, where answers are of one line.
    most : int
        Tokens of an answer at most.
    positions : int or None
        Tokens that the base reads at most, prompt and answer together.
    pad : int
    batch_size : int
    """

    ends: list[int]
    breaks: list[int]
    most: int
    positions: int | None
    pad: int
    batch_size: int

    def room(self, prompt: int) -> int:
        """Tokens that an answer to a prompt of `prompt` tokens may have."""
        return min(self.most, (self.positions or 1 << 40) - prompt)


def drafts(model: Any) -> bool:
    """Check whether :func:`draft` works for a model: its cache, its positions, and nothing that changes its logits."""
    settings = getattr(model, "generation_config", None)
    if settings is None or settings.use_cache is False:
        return False
    if not set(settings.to_diff_dict()) <= _HARMLESS:  # a penalty of repetitions, for one
        return False
    return "position_ids" in inspect.signature(model.forward).parameters and caches(model)


def answer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[EncodedExample],
    prompts: Sequence[list[int]],
    decoding: Decoding,
    *,
    drafted: bool,
    losses: bool,
) -> Iterator[tuple[list[int], list[list[int]] | None, list[torch.Tensor] | None]]:
    """Answer rows, by :func:`draft` those that it can.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
    tokenizer : transformers.PreTrainedTokenizerFast
    rows : sequence of EncodedExample
    prompts : sequence of list of int
        Their prompts as they stand without an answer. A prompt that was cut, or whose last token depends on the
        answer, has other tokens in its row: such a row is answered and scored in passes of their own.
    decoding : Decoding
    drafted : bool
        Whether :func:`drafts` holds for the base.
    losses : bool
        Whether the losses of all rows are wanted.

    Yields
    ------
    list of int
        Indices of a batch of rows.
    list of list of int or None
        The tokens of their answers; each row has them once.
    list of torch.Tensor or None
        Negative log-likelihood in nats of the tokens of their expected answers; each row has them once.
    """
    pairs = enumerate(zip(rows, prompts, strict=True))
    same = [i for i, (row, prompt) in pairs if drafted and row.ids[: row.answer_start] == prompt]
    other = sorted(set(range(len(rows))) - set(same))
    for batch, answers, found in draft(model, [rows[i] for i in same], decoding):
        yield [same[i] for i in batch], answers, found
    for batch, answers in generate(model, tokenizer, [prompts[i] for i in other], decoding):
        yield [other[i] for i in batch], answers, None
    if losses:
        for batch, found in losses_of(model, [rows[i] for i in other], decoding):
            yield [other[i] for i in batch], None, found


def draft(
    model: Any, rows: Sequence[EncodedExample], decoding: Decoding
) -> Iterator[tuple[list[int], list[list[int]], list[torch.Tensor]]]:
    """Answer rows, with the expected answers as drafts.

    Yields
    ------
    list of int
        Indices of a batch of rows.
    list of list of int
        The tokens of their greedy answers, with the token that ended them.
    list of torch.Tensor
        Negative log-likelihood in nats of the tokens of their expected answers.
    """
    import torch
    from torch.nn.functional import cross_entropy

    if not rows:
        return
    prefix = PrefixCache(model, shared_prompt(rows))
    cut = len(prefix.prefix)
    stops = {*decoding.ends, *decoding.breaks}
    rest = [EncodedExample(row.ids[cut:], row.answer_start - cut) for row in rows]
    for batch in by_length([len(row.ids) for row in rest], decoding.batch_size):
        ids, attention, answers = (part.to(model.device) for part in collate([rest[i] for i in batch], decoding.pad))
        seen, cache = prefix.behind(attention)
        logits = answer_logits(model, ids, seen, answers, past_key_values=cache, use_cache=True)
        targets = ids[:, 1:][answers[:, 1:]]
        losses, picks = cross_entropy(logits.float(), targets, reduction="none"), logits.argmax(-1)
        del logits  # the largest of all this
        said: list[list[int]] = []
        open_rows: list[int] = []
        counts = answers[:, 1:].sum(1).tolist()
        for place, (found, expected) in enumerate(zip(picks.split(counts), targets.split(counts), strict=True)):
            row, most = rest[batch[place]], decoding.room(rows[batch[place]].answer_start)
            tokens, ended = _agreed(found.tolist(), expected.tolist(), stops, most)
            said.append(tokens)
            if not ended:
                seen[place, cut + row.answer_start + len(tokens) - 1 :] = 0  # the draft from the first other token on
                open_rows.append(place)
        if open_rows:
            kept = torch.tensor(open_rows, device=model.device)
            cache.batch_select_indices(kept)
            limits = [decoding.room(rows[batch[place]].answer_start) for place in open_rows]
            _go_on(model, cache, seen[kept], [said[place] for place in open_rows], limits, stops)
        yield batch, said, list(losses.split(counts))


def _agreed(picks: list[int], expected: list[int], stops: set[int], most: int) -> tuple[list[int], bool]:
    """Return the tokens that greedy decoding writes as far as the draft shows them, and whether they are all."""
    tokens: list[int] = []
    for pick, wanted in zip(picks, expected, strict=True):
        if len(tokens) >= most:
            return tokens, True
        tokens.append(pick)
        if pick in stops:
            return tokens, True
        if pick != wanted:
            break
    return tokens, len(tokens) >= most


def _go_on(
    model: Any, cache: Any, seen: torch.Tensor, said: list[list[int]], limits: list[int], stops: set[int]
) -> None:
    """Decode token by token; `said` grows. A row that has ended leaves the batch."""
    import torch

    while said:
        last = torch.tensor([[tokens[-1]] for tokens in said], device=seen.device)
        seen = torch.cat([seen, seen.new_ones(len(said), 1)], dim=1)
        positions = seen.cumsum(1)[:, -1:] - 1
        logits = model(
            input_ids=last, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits
        for tokens, pick in zip(said, logits[:, -1].argmax(-1).tolist(), strict=True):
            tokens.append(pick)
        going = [
            row
            for row, (tokens, most) in enumerate(zip(said, limits, strict=True))
            if tokens[-1] not in stops and len(tokens) < most
        ]
        if len(going) < len(said):
            kept = torch.tensor(going, dtype=torch.long, device=seen.device)
            cache.batch_select_indices(kept)
            seen, said, limits = seen[kept], [said[row] for row in going], [limits[row] for row in going]


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], decoding: Decoding
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Answer prompts by the model's own ``generate``: batches of indices, and the tokens of their answers."""
    import torch
    from transformers import StoppingCriteriaList

    breaks = torch.tensor(decoding.breaks, dtype=torch.long)

    def ends_line(input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.isin(input_ids[:, -1], breaks)

    for batch in by_length([len(row) for row in prompts], decoding.batch_size):
        inputs = tokenizer.pad({"input_ids": [prompts[i] for i in batch]}, padding_side="left", return_tensors="pt")
        width = inputs["input_ids"].shape[1]
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=decoding.room(width),
            do_sample=False,
            eos_token_id=decoding.ends,
            pad_token_id=decoding.pad,
            stopping_criteria=StoppingCriteriaList([ends_line] if decoding.breaks else []),
        )
        yield batch, output[:, width:].tolist()


def losses_of(
    model: Any, rows: Sequence[EncodedExample], decoding: Decoding
) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
    """Losses of the answer tokens of rows: batches of indices, and a tensor for each row."""
    for batch in by_length([len(row.ids) for row in rows], decoding.batch_size):
        ids, attention, answers = collate([rows[i] for i in batch], decoding.pad)
        counts = answers[:, 1:].sum(1).tolist()
        yield batch, list(answer_losses(model, ids, attention, answers).split(counts))
