"""Exact match, ROUGE-L and loss of a base model with and without adapters, on the same rows."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.adapter import Adapter
from lorameta.base_model.batch import (
    EncodedExample,
    encode_prompts,
    encode_rows,
    end_tokens,
    positions_of,
    warn_of_cut,
)
from lorameta.base_model.greedy import Decoding, answer, drafts
from lorameta.data import Example
from lorameta.errors import LorametaWarning, UsageError
from lorameta.intervals import bootstrap, wilson
from lorameta.text_scores import text_scores

MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class Scores:
    """How well one model answered.

    Attributes
    ----------
    rows : int
    exact_match : float
        Share in [0, 1] of predictions that equal one of their references after stripping white space.
    rouge_l : float
        Mean in [0, 1] of the best ROUGE-L F1 (with stemming, package ``rouge-score``) over the references.
    loss : float
        Mean negative log-likelihood in nats of a token of the first reference (its end token included).
    predictions : list of str
        In the order of the rows.
    by_row : dict of str to list of float
        ``exact_match`` and ``rouge_l`` of each row, ``loss``, the sum over the tokens of its reference, and ``tokens``.
    """

    rows: int
    exact_match: float
    rouge_l: float
    loss: float
    predictions: list[str] = field(repr=False)
    by_row: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals over the rows: Wilson's of the exact match, the bootstrap's of ROUGE-L and loss."""
        if not self.by_row:
            return {}
        found = {"exact_match": wilson(round(sum(self.by_row["exact_match"])), self.rows)}
        found["rouge_l"] = bootstrap(self.by_row["rouge_l"])
        if sum(self.by_row["tokens"]):
            found["loss"] = bootstrap(self.by_row["loss"], self.by_row["tokens"])
        return found

    def as_dict(self, *, predictions: bool = False) -> dict[str, Any]:
        """Return the numbers with their intervals, rounded to five places, and the predictions if asked for."""
        values = {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(self).items()}
        del values["by_row"]
        if not predictions:
            del values["predictions"]
        intervals = {name: [round(low, 5), round(high, 5)] for name, (low, high) in self.intervals().items()}
        return values | ({"intervals": intervals} if intervals else {})


class Scorer:
    """A base model in memory that scores any number of adapters, each loaded the way a user would: by PEFT.

    Parameters
    ----------
    base_model : str or path
        What ``AutoModelForCausalLM.from_pretrained`` takes.
    revision : str, optional
        Of a base on the Hub, as in ``AdapterBank.base_revision``; its newest commit by default.
    dtype : {"auto", "float32", "bfloat16"}
        ``auto`` is float32 below a billion parameters (as fast on a CPU, and exact) and bfloat16 above.
    batch_size : int
        Rows a batch; rows of similar length share one.
    max_new_tokens : int
        Longest answer. A prediction is what is generated up to the end token or, where no reference has a line
        break, up to the first line break.
    """

    def __init__(
        self,
        base_model: str | PathLike[str],
        *,
        revision: str | None = None,
        dtype: str = "auto",
        batch_size: int = 32,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        from lorameta.base_model.load import load_base

        base = load_base(base_model, revision, None if dtype == "auto" else dtype)
        self._take(base.name, base.model, base.tokenizer, batch_size, max_new_tokens)

    @classmethod
    def of(
        cls, name: str, model: Any, tokenizer: Any, *, batch_size: int = 32, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> Scorer:
        """Return a scorer of a base model that is in memory already; `name` is what messages call it."""
        scorer = cls.__new__(cls)
        scorer._take(name, model, tokenizer, batch_size, max_new_tokens)
        return scorer

    def _take(self, name: str, model: Any, tokenizer: Any, batch_size: int, max_new_tokens: int) -> None:
        if not tokenizer.is_fast:
            raise UsageError(f"the tokenizer of {name} has no character offsets (it is not a fast tokenizer)")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.base_model, self.model, self.tokenizer = name, model.eval(), tokenizer
        self._peft: Any = None
        self.positions = positions_of(self.model.config)
        self.end_tokens = end_tokens(self.model, tokenizer)
        self.drafts = drafts(self.model)
        ends = tokenizer.convert_ids_to_tokens([*self.end_tokens, tokenizer.pad_token_id])  # decoded rows have both
        self._end_texts = [text for text in ends if text and text.strip()]
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        tokens = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        self._line_breaks = [i for i, t in enumerate(tokens) if t and ("\n" in t or "Ċ" in t or t == "<0x0A>")]

    def score(
        self,
        examples: Sequence[Example],
        adapter: Adapter | str | PathLike[str] | None = None,
        *,
        progress: Callable[[int], object] | None = None,
    ) -> Scores:
        """Score the base (`adapter` None) or the base with an adapter on labelled examples.

        Parameters
        ----------
        examples : sequence of Example
            Each with at least one output.
        adapter : Adapter, path of a PEFT directory, or None
        progress : callable, optional
            Called with the number of rows done after each batch.

        Returns
        -------
        Scores
        """
        import torch

        if not examples:
            raise UsageError("there are no rows to score")
        unlabelled = sum(not example.outputs for example in examples)
        if unlabelled:
            raise UsageError(f"{unlabelled} of {len(examples)} rows have no output to compare with")
        examples = [Example(example.input, self._references(example)) for example in examples]
        self._warn_of_long(examples)
        with torch.inference_mode(), Attached(self, adapter) as model:
            predictions, losses, tokens = self._answer(model, examples, progress)
        found = text_scores(predictions, [example.outputs for example in examples])
        count = len(examples)
        loss = sum(losses) / sum(tokens) if sum(tokens) else math.nan
        exact, rouge = (sum(found[name]) / count for name in ("exact_match", "rouge_l"))
        return Scores(count, exact, rouge, loss, predictions, {**found, "loss": losses, "tokens": tokens})

    def generate(self, prompts: Sequence[str], adapter: Adapter | str | PathLike[str] | None = None) -> list[str]:
        """Greedy answers to bare prompts, in their order."""
        import torch

        with torch.inference_mode(), Attached(self, adapter) as model:
            return self._answer(model, [Example(prompt, ()) for prompt in prompts])[0]

    def _references(self, example: Example) -> tuple[str, ...]:
        """Return the answers without the end and padding tokens that rows may carry: no model writes them out."""
        found = []
        for output in example.outputs:
            text = output.strip()
            while end := next((end for end in self._end_texts if text.endswith(end) and text != end), None):
                text = text.removesuffix(end).rstrip()
            found.append(text)
        return tuple(found)

    def _warn_of_long(self, examples: Sequence[Example]) -> None:
        """Warn where every reference of a row is longer than an answer may be."""
        lengths = [
            min(len(self.tokenizer(output, add_special_tokens=False)["input_ids"]) for output in example.outputs)
            for example in examples
        ]
        if long := sum(length > self.max_new_tokens for length in lengths):
            message = (
                f"{long} of {len(examples)} rows have references longer than {self.max_new_tokens} tokens, of up to "
                f"{max(lengths)}: no answer can equal them; raise --max-new-tokens (max_new_tokens)"
            )
            warnings.warn(message, LorametaWarning, stacklevel=3)

    def _answer(
        self, model: Any, examples: Sequence[Example], progress: Callable[[int], object] | None = None
    ) -> tuple[list[str], list[float], list[float]]:
        """Answers; and the sum of the losses of a row's answer tokens, and their number, 0 where no row has one."""
        limit, most, count = self.positions, self.max_new_tokens, len(examples)
        one_line = not any("\n" in output.strip() for example in examples for output in example.outputs)
        longest = None if limit is None else max(limit - most, limit // 2)
        prompts, cut = encode_prompts(self.tokenizer, [example.input for example in examples], longest)
        warn_of_cut(cut, count, longest, f"scoring (beside answers of {most})")
        if labelled := any(example.outputs for example in examples):
            rows, cut = encode_rows(self.tokenizer, examples, limit)
            warn_of_cut(cut, count, limit, "scoring")
        else:  # nothing is expected but that the answer ends
            rows = [EncodedExample([*prompt, self.tokenizer.eos_token_id], len(prompt)) for prompt in prompts]
        decoding = Decoding(
            self.end_tokens, self._line_breaks if one_line else [], most, limit, self.tokenizer.pad_token_id,
            self.batch_size,
        )  # fmt: skip
        texts, sums, tokens = [""] * count, [0.0] * count, [0.0] * count
        for batch, answers, losses in answer(
            model, self.tokenizer, rows, prompts, decoding, drafted=self.drafts, losses=labelled
        ):
            if answers is not None:
                decoded = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
                for index, text in zip(batch, decoded, strict=True):
                    text = text.strip()
                    texts[index] = text.split("\n", 1)[0].strip() if one_line else text
                if progress is not None:
                    progress(len(batch))
            if losses is not None and labelled:
                for index, row in zip(batch, losses, strict=True):
                    sums[index], tokens[index] = row.double().sum().item(), float(len(row))
        return texts, sums, tokens


class Attached:
    """Context in which an adapter is active on the scorer's model; afterwards the base is as it was."""

    def __init__(self, scorer: Scorer, adapter: Adapter | str | PathLike[str] | None) -> None:
        self.scorer, self.adapter = scorer, adapter

    def __enter__(self) -> Any:
        from peft import PeftModel

        if self.adapter is None:
            return self.scorer.model
        if not isinstance(self.adapter, Adapter):
            Adapter.from_pretrained(self.adapter)  # our errors name the file and the remedy; PEFT's name neither
            self.wrapped = PeftModel.from_pretrained(self.scorer.model, str(self.adapter))
        else:
            with tempfile.TemporaryDirectory(prefix="lorameta-") as folder:
                directory = self.adapter.save_pretrained(Path(folder) / "adapter")
                self.wrapped = PeftModel.from_pretrained(self.scorer.model, str(directory))
        return self.wrapped.eval()

    def __exit__(self, *_: object) -> None:
        if self.adapter is not None:
            self.scorer.model = self.wrapped.unload()


def evaluate(
    examples: Sequence[Example],
    base_model: str | PathLike[str],
    adapters: Mapping[str, Adapter | str | PathLike[str] | None],
    *,
    revision: str | None = None,
    batch_size: int = 32,
    max_new_tokens: int = MAX_NEW_TOKENS,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Scores]:
    """Score the base and several adapters side by side, on the same rows.

    Parameters
    ----------
    examples : sequence of Example
        Labelled rows, not those an adapter was made from.
    base_model : str or path
        ``AdapterBank.base_model``, or what ``AutoModelForCausalLM.from_pretrained`` takes.
    adapters : mapping of name to Adapter, PEFT directory or None
        None stands for the base alone.
    revision, batch_size, max_new_tokens
        See :class:`Scorer`.
    progress : callable, optional
        Called with the number of rows done after each batch; there are ``len(examples) * len(adapters)`` in all.

    Returns
    -------
    dict of str to Scores
        In the order of `adapters`.

    Examples
    --------
    >>> from lorameta import AdapterBank, evaluate, generate_adapter, load_examples  # doctest: +SKIP
    >>> adapter = generate_adapter("train.jsonl")  # doctest: +SKIP
    >>> evaluate(load_examples("test.jsonl"), adapter.base_model, {"base": None, "mine": adapter})  # doctest: +SKIP
    """
    scorer = Scorer(base_model, revision=revision, batch_size=batch_size, max_new_tokens=max_new_tokens)
    return {name: scorer.score(examples, adapter, progress=progress) for name, adapter in adapters.items()}
