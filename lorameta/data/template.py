"""The prompt that the rows of a dataset share: what stands before and after the part that differs from row to row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorameta.data.turns import instruction_prompt

if TYPE_CHECKING:
    from lorameta.data.example import Example

#: Rows that are compared; a shared beginning of so many is shared by all, or nearly.
COMPARED = 512


@dataclass(frozen=True)
class PromptTemplate:
    """What a prompt looked like in training.

    Attributes
    ----------
    prefix, suffix : str
        Before and after the input of a row; "" where the rows share nothing.
    one_line : bool
        Whether no answer held a line break, so that an answer ends at the first.
    """

    prefix: str = ""
    suffix: str = ""
    one_line: bool = False

    @classmethod
    def of(cls, examples: Sequence[Example], *, within: str = "") -> PromptTemplate:
        """Find the template of the rows of a dataset.

        `within`, a bank's own template with ``{input}`` in it, is taken off first where the prompts have it.

        A prefix counts as far as it ends in a line break or in a label of the last line such as ``Input: ``, a suffix
        as far as it begins with a line break: equal words at the edge of the inputs are theirs. One prompt shares
        nothing with another.

        Examples
        --------
        >>> from lorameta.data import Example
        >>> rows = [Example("Say the sound.\\n\\nInput: dog\\n\\nOutput:", ("bark",)),
        ...         Example("Say the sound.\\n\\nInput: duck\\n\\nOutput:", ("quack",))]
        >>> PromptTemplate.of(rows)
        PromptTemplate(prefix='Say the sound.\\n\\nInput: ', suffix='\\n\\nOutput:', one_line=True)
        """
        answers = [output for example in examples for output in example.outputs]
        one_line = bool(answers) and not any("\n" in answer.strip() for answer in answers)
        before, _, after = within.partition("{input}")
        around = cls(before, after)
        prompts = list({around.bare(example.input): None for example in examples[:COMPARED]})
        if len(prompts) < 2:
            return cls(one_line=one_line)
        prefix = _whole_lines(_shared(prompts))
        rest = [prompt[len(prefix) :][::-1] for prompt in prompts]
        suffix = _shared(rest)[::-1]
        while suffix and suffix[0] != "\n":  # the words before the line break belong to the inputs
            _, line, after = suffix.partition("\n")
            suffix = line + after
        return cls(prefix, suffix, one_line)

    @classmethod
    def from_dict(cls, value: object) -> PromptTemplate | None:
        """Return the template that :meth:`as_dict` wrote; None if `value` is no such thing."""
        if not isinstance(value, Mapping):
            return None
        prefix, suffix, one_line = (value.get(key) for key in ("prefix", "suffix", "one_line"))
        if isinstance(prefix, str) and isinstance(suffix, str) and isinstance(one_line, bool):
            return cls(prefix, suffix, one_line)
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return the template as JSON values."""
        return {"prefix": self.prefix, "suffix": self.suffix, "one_line": self.one_line}

    def render(self, text: str, *, instruction: str | None = None) -> str:
        """Return the whole prompt for a bare input.

        Parameters
        ----------
        text : str
            An input, or a whole prompt in the form of the template, which is returned as it is.
        instruction : str, optional
            Takes the place of the template's own: the prompt has the form of instruction rows.
        """
        if instruction is not None:
            return instruction_prompt(instruction, text)
        if text.startswith(self.prefix) and text.endswith(self.suffix):
            return text
        return f"{self.prefix}{text.strip()}{self.suffix}"

    def bare(self, prompt: str) -> str:
        """Return the input within a prompt; the prompt itself where it does not have the form of the template."""
        if len(prompt) < len(self.prefix) + len(self.suffix) or self.render(prompt) != prompt:
            return prompt
        return prompt[len(self.prefix) : len(prompt) - len(self.suffix)]


def _whole_lines(shared: str) -> str:
    """Return `shared` up to its last line break and the label behind that, if it is one."""
    end = shared.rfind("\n") + 1
    label, colon, _ = shared[end:].partition(": ")
    if colon and label.isalpha() and label[:1].isupper():
        end += len(label) + len(colon)
    return shared[:end]


def _shared(texts: Sequence[str]) -> str:
    """Return the beginning that all texts share: that of the first and the last in their order."""
    low, high = min(texts), max(texts)
    return low[: next((i for i, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), len(low))]
