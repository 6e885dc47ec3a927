"""Scores of one base model with thousands of updates: what the study needs instead of `lorameta.evaluate.Scorer`.

The same numbers (a test compares the two), quicker in three ways that suit it: an update ΔW is added to the weights
and taken off again, so no adapter is loaded; the rows of a task share the keys and values of their common prefix; the
loss of the reference and the greedy answer start from one pass over the prompts.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

from lorameta.base_model.batch import decoder_of, encode_example
from lorameta.data import Example, join_prompt
from lorameta.evaluate import text_scores

BLANK = "\n\n"


@dataclass(frozen=True)
class Batch:
    """Rows of one task, ready to be scored.

    Attributes
    ----------
    prefix : (p,) ids that all prompts begin with
    rest : (n, m) what follows, padded on the left; `rest_mask` tells padding
    answers : (n, a) reference and end token, padded on the right; `answer_mask` tells padding
    references : per row, all of them
    places : index of each row in the task
    """

    prefix: torch.Tensor
    rest: torch.Tensor
    rest_mask: torch.Tensor
    answers: torch.Tensor
    answer_mask: torch.Tensor
    references: list[tuple[str, ...]]
    places: list[int]


@functools.lru_cache(maxsize=500_000)
def rouge_l(prediction: str, references: tuple[str, ...]) -> float:
    return text_scores([prediction], [references])["rouge_l"][0]


class UpdateScorer:
    """A base model in float32 that scores updates of its weights.

    Parameters
    ----------
    base_model : str
    batch_size : int
        Rows a batch.
    max_new_tokens : int
        Longest answer; a task whose references are all short stops at twice the longest of them, but not before 8.
    """

    def __init__(self, base_model: str, *, batch_size: int = 32, max_new_tokens: int = 32) -> None:
        logging.disable_progress_bar()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base_model)
        self.model: Any = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32).eval()
        self.decoder: Any = decoder_of(self.model)
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        modules = dict(self.model.named_modules())
        self.weights = {name: module.weight for name, module in modules.items() if isinstance(module, torch.nn.Linear)}
        self._original: dict[str, torch.Tensor] = {}
        tokens = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        breaks = [i for i, token in enumerate(tokens) if token and ("\n" in token or "Ċ" in token)]
        self._ends = torch.tensor([*breaks, self.tokenizer.eos_token_id])
        self._end = torch.tensor([self.tokenizer.eos_token_id])

    def prepare(self, examples: Sequence[Example], shots: Sequence[Example] = ()) -> list[Batch]:
        """Tokenise the rows of one task; `shots` are put before each as solved examples of the same task."""
        if shots:
            examples = [Example(few_shot(example.input, shots), example.outputs) for example in examples]
        encoded = [encode_example(self.tokenizer, example) for example in examples]
        prompts = [row.ids[: row.answer_start] for row in encoded]
        answers = [row.ids[row.answer_start :] for row in encoded]
        shared = 0
        while all(len(p) > shared + 1 and p[shared] == prompts[0][shared] for p in prompts):
            shared += 1
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        batches = []
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            rest = [prompts[i][shared:] for i in places]
            wide, long = max(map(len, rest)), max(len(answers[i]) for i in places)
            left = [[0] * (wide - len(row)) + row for row in rest]
            right = [answers[i] + [0] * (long - len(answers[i])) for i in places]
            batches.append(
                Batch(
                    torch.tensor(prompts[0][:shared], dtype=torch.long),
                    torch.tensor(left),
                    torch.tensor([[0] * (wide - len(row)) + [1] * len(row) for row in rest]),
                    torch.tensor(right),
                    torch.tensor([[1] * len(answers[i]) + [0] * (long - len(answers[i])) for i in places]),
                    [examples[i].outputs for i in places],
                    places,
                )
            )
        return batches

    def apply(self, update: Mapping[str, torch.Tensor] | None) -> None:
        """Make the weights those of the base plus `update` (module → ΔW); None is the base."""
        for name, weight in self._original.items():
            self.weights[name].data.copy_(weight)
        for name, delta in (update or {}).items():
            if name not in self._original:
                self._original[name] = self.weights[name].detach().clone()
            self.weights[name].data.add_(delta)

    @torch.inference_mode()
    def score(
        self, batches: Sequence[Batch], update: Mapping[str, torch.Tensor] | None = None, *, answers: bool = True
    ) -> dict[str, Any]:
        """Loss (nats a token of the first reference) and forced exact match; with `answers` also those of the answers.

        `forced_exact_match` is the share of rows whose first reference is the most likely continuation token by
        token: the exact match of greedy decoding, except other spellings of the same text in tokens.
        """
        self.apply(update)
        total, tokens, forced = 0.0, 0, 0
        exact, rouge = np.zeros(sum(len(b.places) for b in batches)), np.zeros(sum(len(b.places) for b in batches))
        longest = max(batch.answers.shape[1] for batch in batches)
        one_line = not any("\n" in r.strip() for b in batches for row in b.references for r in row)
        for batch in batches:
            logits, cache, mask, position = self._prompt(batch)
            loss, right = self._forced(batch, logits, cache, mask, position)
            total, tokens, forced = total + loss, tokens + int(batch.answer_mask.sum()), forced + int(right.sum())
            if answers:
                limit = min(self.max_new_tokens, max(8, 2 * longest))
                texts = self._greedy(logits, cache, mask, position, limit, one_line)
                for place, text, references in zip(batch.places, texts, batch.references, strict=True):
                    exact[place] = any(text == reference.strip() for reference in references)
                    rouge[place] = rouge_l(text, references)
        scores = {"loss": total / tokens, "forced_exact_match": forced / len(exact)}
        if answers:
            scores |= {"exact_match": float(exact.mean()), "rouge_l": float(rouge.mean())}
        return scores

    def _prompt(self, batch: Batch) -> tuple[torch.Tensor, DynamicCache, torch.Tensor, torch.Tensor]:
        """Logits behind each prompt, its cache, the mask over the cache, and the next position."""
        rows, shared = len(batch.places), len(batch.prefix)
        cache = DynamicCache()
        if shared:
            self.decoder(input_ids=batch.prefix[None], past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(rows)
        mask = torch.cat([torch.ones(rows, shared, dtype=torch.long), batch.rest_mask], dim=1)
        position = (shared + batch.rest_mask.cumsum(1) - 1).clamp(min=0)
        hidden = self.decoder(
            input_ids=batch.rest, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        return self.model.get_output_embeddings()(hidden), cache, mask, position[:, -1:] + 1

    def _forced(
        self, batch: Batch, logits: torch.Tensor, cache: DynamicCache, mask: torch.Tensor, position: torch.Tensor
    ) -> tuple[float, torch.Tensor]:
        """Summed loss of the reference, and which rows have each of its tokens as the most likely one."""
        given, known = batch.answers[:, :-1], batch.answer_mask.bool()
        everything = logits[:, None]
        if given.shape[1]:
            hidden = self.decoder(
                input_ids=given,
                attention_mask=torch.cat([mask, batch.answer_mask[:, :-1]], dim=1),
                position_ids=position + torch.arange(given.shape[1]),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            cache.crop(-given.shape[1])
            everything = torch.cat([everything, self.model.get_output_embeddings()(hidden)], dim=1)
        loss = cross_entropy(everything[known], batch.answers[known], reduction="sum").item()
        return loss, ((everything.argmax(-1) == batch.answers) | ~known).all(dim=1)

    def _greedy(
        self,
        logits: torch.Tensor,
        cache: DynamicCache,
        mask: torch.Tensor,
        position: torch.Tensor,
        limit: int,
        one_line: bool,
    ) -> list[str]:
        ends = self._ends if one_line else self._end
        done = torch.zeros(len(logits), dtype=torch.bool)
        chosen = []
        for step in range(limit):
            token = logits.argmax(-1).masked_fill(done, self.tokenizer.pad_token_id)
            chosen.append(token)
            done |= torch.isin(token, ends)
            if bool(done.all()) or step == limit - 1:
                break
            mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=torch.long)], dim=1)
            hidden = self.decoder(
                input_ids=token[:, None], attention_mask=mask, position_ids=position + step, past_key_values=cache
            ).last_hidden_state[:, -1]
            logits = self.model.get_output_embeddings()(hidden)
        texts = self.tokenizer.batch_decode(torch.stack(chosen, dim=1), skip_special_tokens=True)
        return [text.strip().split("\n", 1)[0].strip() if one_line else text.strip() for text in texts]


def few_shot(prompt: str, shots: Sequence[Example]) -> str:
    """The prompt with solved examples between its definition and its input."""
    head, _, body = prompt.partition(BLANK)
    solved = [f"{join_prompt(shot.input.partition(BLANK)[2], shot.output)}{BLANK}" for shot in shots]
    return f"{head}{BLANK}{''.join(solved)}{body}"
