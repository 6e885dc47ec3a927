"""The prompt template of a bank: what stands around an input, the same in encoding, training, evaluation and use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from os import PathLike
from typing import Any

from lorameta.data import Example, PromptTemplate
from lorameta.errors import UsageError

#: Where the input of a row goes.
PLACEHOLDER = "{input}"
#: Stands for the chat template of the base.
CHAT = "chat"


def template_problem(template: str) -> str | None:
    """Return what is wrong with a template; None if nothing is. The empty template leaves inputs as they are."""
    if template and template.count(PLACEHOLDER) != 1:
        return f"the prompt template {template[:60]!r} must hold {PLACEHOLDER} once, where the input of a row goes"
    return None


def rendered(template: str, examples: Iterable[Example]) -> list[Example]:
    """Return rows with the whole prompt as their input; a row that has it already stays as it is.

    This is the one place where a bank's template meets rows.

    Parameters
    ----------
    template : str
        A text with ``{input}`` in it, or "" for inputs that are whole prompts.
    examples : iterable of Example

    Examples
    --------
    >>> rendered("User: {input}\\nAssistant:", [Example("2 + 2?", ("4",))])
    [Example(input='User: 2 + 2?\\nAssistant:', outputs=('4',))]
    """
    if problem := template_problem(template):
        raise UsageError(problem)
    if not template:
        return list(examples)
    prefix, _, suffix = template.partition(PLACEHOLDER)
    around = PromptTemplate(prefix, suffix)
    return [replace(example, input=around.render(example.input)) for example in examples]


def resolved(template: str, base: str | PathLike[str], revision: str | None = None) -> str:
    """Return a template as the manifest of a bank keeps it: ``chat`` becomes the text of the base's chat template.

    Raises
    ------
    UsageError
        The template has no place for the input, or the base no chat template.
    """
    if template == CHAT:
        from lorameta.base_model.load import load_tokenizer

        return chat_template(load_tokenizer(base, revision), str(base))
    if problem := template_problem(template):
        raise UsageError(problem)
    return template


def chat_template(tokenizer: Any, base: str) -> str:
    """Return the prompt of a conversation of one message by the base's chat template, ``{input}`` for the message.

    Its special tokens stand there as text, which the tokenizer reads as such; what the tokenizer puts in front of any
    text is left out.

    Raises
    ------
    UsageError
        The tokenizer has no chat template, or one that changes what it is given.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(f"the tokenizer of {base} has no chat template; give a text with {PLACEHOLDER}")
    message = [{"role": "user", "content": PLACEHOLDER}]
    text: str = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    ids = tokenizer("")["input_ids"]
    if tokenizer.bos_token and tokenizer.bos_token_id in ids:
        text = text.removeprefix(tokenizer.bos_token)
    if problem := template_problem(text):
        raise UsageError(f"the chat template of {base} cannot be used: {problem}")
    return text
