"""Prompt templates, the same in encoding, training, evaluation and use.

The template of a bank stands around the input of a row; the chat template of its base makes a prompt of a conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.base_model.config import load
from lorameta.data import Example, PromptTemplate, Turn
from lorameta.errors import DataError, UsageError, first_line
from lorameta.files.links import is_file

#: Where the input of a row goes.
PLACEHOLDER = "{input}"
#: Stands for the chat template of the base.
CHAT = "chat"


def template_problem(template: str) -> str | None:
    """Return what is wrong with a template; None if nothing is. The empty template leaves inputs as they are."""
    if template and template.count(PLACEHOLDER) != 1:
        return f"the prompt template {template[:60]!r} must hold {PLACEHOLDER} once, where the input of a row goes"
    return None


class ChatTemplate:
    """The chat template of a base: it makes a prompt of a conversation.

    Its special tokens stand in the prompt as text, which the tokenizer reads as such; what the tokenizer puts in front
    of any text is left out.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        With a chat template.
    base : str
        Its name, for messages.
    """

    def __init__(self, tokenizer: Any, base: str) -> None:
        self._tokenizer, self.base = tokenizer, base
        adds = tokenizer.bos_token and tokenizer.bos_token_id in tokenizer("")["input_ids"]
        self._begin: str = tokenizer.bos_token if adds else ""

    @classmethod
    def of(cls, tokenizer: Any, base: str) -> ChatTemplate | None:
        """Return the chat template of a tokenizer; None if it has none."""
        return cls(tokenizer, base) if getattr(tokenizer, "chat_template", None) else None

    @classmethod
    def of_directory(cls, directory: Path | None) -> ChatTemplate | None:
        """Return the chat template among the files of a tokenizer; None, without an import, if there is none."""
        if directory is None:
            return None
        settings = directory / "tokenizer_config.json"
        if not is_file(directory / "chat_template.jinja") and not (
            is_file(settings) and b'"chat_template"' in settings.read_bytes()
        ):
            return None
        return cls.of(load("PreTrainedTokenizerFast", directory), str(directory))

    def render(self, turns: Sequence[Turn]) -> str:
        """Return the prompt of a conversation.

        A template that takes no system message gets it as the beginning of the first message.

        Raises
        ------
        UsageError
            The template refuses the conversation.
        """
        try:
            return self._render(turns)
        except Exception as error:  # a template raises what it likes
            said = [content for role, content in turns if role == "System"]
            rest = [turn for turn in turns if turn[0] != "System"]
            if said and rest:
                try:
                    return self._render([(rest[0][0], "\n\n".join([*said, rest[0][1]])), *rest[1:]])
                except Exception:
                    pass
            raise UsageError(f"the chat template of {self.base} refuses it: {first_line(error)}") from error

    def around(self, system: Sequence[Turn] = ()) -> str:
        """Return the prompt of a conversation of one message, ``{input}`` for the message.

        Raises
        ------
        UsageError
            The template changes what it is given.
        """
        text = self.render([*system, ("User", PLACEHOLDER)])
        if problem := template_problem(text):
            raise UsageError(f"the chat template of {self.base} cannot be used: {problem}")
        return text

    def _render(self, turns: Sequence[Turn]) -> str:
        messages = [{"role": role.lower(), "content": content} for role, content in turns]
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text.removeprefix(self._begin)


#: Gives the chat template of a base, or None; called only where a row is a conversation.
FindChat = Callable[[], ChatTemplate | None]


def rendered(template: str, examples: Iterable[Example], chat: FindChat = lambda: None) -> list[Example]:
    """Return rows with the whole prompt as their input; a row that has it already stays as it is.

    This is the one place where templates meet rows: the chat template of the base where a row is a conversation and
    the base has one, else the bank's.

    Parameters
    ----------
    template : str
        A text with ``{input}`` in it, or "" for inputs that are whole prompts.
    examples : iterable of Example
    chat : callable
        Returns the chat template of the base.

    Raises
    ------
    DataError
        The chat template refuses conversations; all of them.

    Examples
    --------
    >>> rendered("User: {input}\\nAssistant:", [Example("2 + 2?", ("4",))])
    [Example(input='User: 2 + 2?\\nAssistant:', outputs=('4',))]
    """
    if problem := template_problem(template):
        raise UsageError(problem)
    examples = list(examples)
    found = chat() if any(example.turns for example in examples) else None
    prefix, _, suffix = template.partition(PLACEHOLDER)
    around = PromptTemplate(prefix, suffix)
    whole, problems = [], []
    for number, example in enumerate(examples, 1):
        if found is not None and example.turns:
            try:
                example = replace(example, input=found.render(example.turns))
            except UsageError as error:
                problems.append(f"row {number}: {error}")
        elif template:
            example = replace(example, input=around.render(example.input))
        whole.append(example)
    DataError.raise_if(problems, "conversations cannot be made into prompts:")
    return whole


def common_template(template: str, examples: Sequence[Example], chat: FindChat = lambda: None) -> str:
    """Return what stands around a bare input that is to look like these rows; the parameters of :func:`rendered`.

    Where all rows are conversations and the base has a chat template, it is the prompt of one message, with the system
    message that they share; else the bank's template.
    """
    if not examples or not all(example.turns for example in examples) or (found := chat()) is None:
        return template
    systems = {tuple(turn for turn in example.turns if turn[0] == "System") for example in examples}
    try:
        return found.around(systems.pop() if len(systems) == 1 else ())
    except UsageError:  # it takes these conversations, but no bare message as it is
        return template


def about_rows(template: str, examples: Sequence[Example], chat: FindChat = lambda: None) -> dict[str, Any]:
    """Return what an adapter's report keeps of its rows' prompts; the parameters of :func:`rendered`.

    ``prompt`` is what the rows share, :meth:`lorameta.data.PromptTemplate.as_dict`; ``prompt_template``, if there is
    one, stands around that.
    """
    around = common_template(template, examples, chat)
    found: dict[str, Any] = {"prompt": PromptTemplate.of(examples, within=around).as_dict()}
    return found | ({"prompt_template": around} if around else {})


def resolved(template: str, base: str | PathLike[str], revision: str | None = None) -> str:
    """Return a template as the manifest of a bank keeps it: ``chat`` becomes the text of the base's chat template.

    Raises
    ------
    UsageError
        The template does not hold the input once, or the base no chat template.
    """
    if template == CHAT:
        from lorameta.base_model.load import load_tokenizer

        found = ChatTemplate.of(load_tokenizer(base, revision), str(base))
        if found is None:
            raise UsageError(f"the tokenizer of {base} has no chat template; give a text with {PLACEHOLDER}")
        return found.around()
    if problem := template_problem(template):
        raise UsageError(problem)
    return template
