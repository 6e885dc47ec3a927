"""One base and one adapter in memory, asked as often as one likes: answers as they come, with and without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from os import PathLike
from typing import Any

from lorameta.adapter import Adapter
from lorameta.base_model.batch import encode_prompts, end_tokens, positions_of
from lorameta.data import Example, PromptTemplate
from lorameta.errors import UsageError

MAX_NEW_TOKENS = 128


class Answerer:
    """An adapter on its base, ready to answer.

    Parameters
    ----------
    adapter : Adapter or path
        The adapter, or its PEFT directory.
    base : str or path, optional
        The base: a directory or a Hub id; by default the one that the adapter names.
    revision : str, optional
        Of a base that is given.
    instruction : str, optional
        What to do with an input, in place of what the rows of the adapter had in common.

    Attributes
    ----------
    base_model : str
        What the base was loaded from.
    template : PromptTemplate
        Turns a bare input into a row like those that the adapter was made for.
    bank_template : str
        What the adapter's bank puts around a row, with ``{input}`` in it; "" for nothing.

    Examples
    --------
    >>> from lorameta.ask import Answerer  # doctest: +SKIP
    >>> model = Answerer("my-adapter")  # doctest: +SKIP
    >>> model.answer("dog"), model.answer("dog", with_adapter=False)  # doctest: +SKIP
    """

    def __init__(
        self,
        adapter: Adapter | str | PathLike[str],
        *,
        base: str | PathLike[str] | None = None,
        revision: str | None = None,
        instruction: str | None = None,
    ) -> None:
        from lorameta.base_model.load import load_base
        from lorameta.evaluate import Attached, Scorer

        found = adapter if isinstance(adapter, Adapter) else Adapter.from_pretrained(adapter)
        if base is None and not found.base_model:
            raise UsageError(f"the adapter {found.name} does not say what base it was made for; name it (--base)")
        place = str(base) if base is not None else found.base_model
        loaded = load_base(place, found.base_revision if base is None else revision)
        _require_shapes(found, loaded.model, place)
        self.base_model = found.base_model if base is None else place
        self.instruction = instruction
        self.template = PromptTemplate.from_dict(found.report.get("prompt")) or PromptTemplate()
        self.bank_template = str(found.report.get("prompt_template") or "")
        self._scorer = Scorer.of(place, loaded.model, loaded.tokenizer)
        self._model = Attached(self._scorer, adapter).__enter__()

    def prompt(self, text: str) -> str:
        """Return the whole prompt for a bare input; a whole prompt, with the bank's template or without, stays one."""
        before, _, after = self.bank_template.partition("{input}")
        if self.bank_template and PromptTemplate(before, after).bare(text) != text:
            return text
        own = self.template.render(text, instruction=self.instruction)
        return self.prompts([Example(own)])[0].input

    def prompts(self, examples: Sequence[Example]) -> list[Example]:
        """Return rows with the prompts that the adapter was made for."""
        from lorameta.base_model.templates import ChatTemplate, rendered

        return rendered(self.bank_template, examples, lambda: ChatTemplate.of(self._scorer.tokenizer, self.base_model))

    def answer(
        self,
        text: str,
        *,
        with_adapter: bool = True,
        max_new_tokens: int = MAX_NEW_TOKENS,
        on_text: Callable[[str], object] | None = None,
        stop: Callable[[], bool] | None = None,
        raw: bool = False,
    ) -> str:
        """Answer greedily, up to the end token or, where no answer in training had a line break, to the first one.

        Parameters
        ----------
        text : str
            An input or a whole prompt.
        with_adapter : bool
            Whether the adapter is active; otherwise the base answers alone.
        max_new_tokens : int
            Longest answer.
        on_text : callable, optional
            Called with each part of the answer as soon as it is there.
        stop : callable, optional
            Asked after each token whether to end the answer.
        raw : bool
            Whether `text` is the prompt, verbatim.

        Returns
        -------
        str
            Without surrounding white space.
        """
        import torch
        from transformers import StoppingCriteriaList

        tokenizer, parts = self._scorer.tokenizer, _Parts(self.template.one_line, on_text)
        longest = positions_of(self._model.config)
        (ids,), _ = encode_prompts(tokenizer, [text if raw else self.prompt(text)])
        length = len(ids)
        if longest is not None and length >= longest:
            raise UsageError(f"the prompt has {length} tokens; the base reads {longest} at most")

        def ended(*_: Any, **__: Any) -> Any:
            return torch.tensor([parts.ended or (stop is not None and stop())])

        adapter = nullcontext() if with_adapter else self._model.disable_adapter()
        with torch.inference_mode(), adapter:
            self._model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, length, dtype=torch.long),
                max_new_tokens=max_new_tokens if longest is None else min(max_new_tokens, longest - length),
                do_sample=False,
                eos_token_id=end_tokens(self._model, tokenizer),
                pad_token_id=tokenizer.pad_token_id,
                streamer=_streamer(tokenizer, parts.add),
                stopping_criteria=StoppingCriteriaList([ended]),
            )
        return parts.text.strip()


class _Parts:
    """The answer so far; leading blanks, and what follows the end of a one-line answer, are no part of it."""

    def __init__(self, one_line: bool, on_text: Callable[[str], object] | None) -> None:
        self.text, self.ended = "", False
        self._one_line, self._on_text = one_line, on_text

    def add(self, part: str) -> None:
        if self.ended:
            return
        part = part if self.text else part.lstrip(" \t")
        if self._one_line and "\n" in part:
            part, self.ended = part.partition("\n")[0], True
        self.text += part
        if part and self._on_text is not None:
            self._on_text(part)


def _streamer(tokenizer: Any, add: Callable[[str], None]) -> Any:
    """Return a streamer of transformers that passes on each part of the text once no later token can change it."""
    from transformers import TextStreamer

    class Streamer(TextStreamer):  # type: ignore[misc]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            add(text)

    return Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True)


def _require_shapes(adapter: Adapter, model: Any, base: str) -> None:
    """Refuse an adapter that does not fit the base, by what it changes."""
    shapes = {name: tuple(module.weight.shape) for name, module in model.named_modules() if hasattr(module, "weight")}
    odd = [name for name, pair in adapter.modules.items() if shapes.get(name) != pair.shape]
    if odd:
        found = shapes.get(odd[0])
        there = "is not there" if found is None else f"has the shape {found}"
        raise UsageError(
            f"the adapter is not for the base {base}: it changes {odd[0]} {adapter.modules[odd[0]].shape}, which "
            f"{there} in it ({len(odd)} such modules); name its own base with --base"
        )
