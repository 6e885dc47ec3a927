"""The shared prompt of rows: every prompt is again what the template makes of its own input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.data import Example, PromptTemplate, instruction_prompt

WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1), min_size=1, max_size=6)


@given(WORDS, st.sampled_from(["", "Say what it is.", "A: b\nC: d"]))
def test_the_template_rebuilds_every_prompt_from_the_part_that_differs(words, instruction):
    rows = [Example(instruction_prompt(instruction, word) if instruction else word, ("x",)) for word in words]
    template = PromptTemplate.of(rows)
    for row in rows:
        assert row.input.startswith(template.prefix)
        assert row.input.endswith(template.suffix)
        assert len(template.prefix) + len(template.suffix) <= len(row.input)
        assert template.render(row.input) == row.input


def test_what_the_inputs_begin_and_end_with_is_theirs():
    rows = [Example(f"Translate.\n\nInput: I want a {word} now\n\nOutput:", ("x",)) for word in ("dog", "duck")]
    template = PromptTemplate.of(rows)
    assert template == PromptTemplate("Translate.\n\nInput: ", "\n\nOutput:", True)
    assert template.render("  I see ") == "Translate.\n\nInput: I see\n\nOutput:"
    assert template.render("cat", instruction="Say it.") == "Definition: Say it.\n\nInput: cat\n\nOutput:"


@pytest.mark.parametrize("prompts", [["Input: dog"], ["one prompt", "one prompt"], ["is a dog?", "is a cat?"]])
def test_prompts_that_share_no_line_have_no_template(prompts):
    assert PromptTemplate.of([Example(prompt, ("a\nb",)) for prompt in prompts]) == PromptTemplate()


def test_foreign_values_are_no_template():
    template = PromptTemplate("a\n", "\nb", True)
    assert PromptTemplate.from_dict(template.as_dict()) == template
    for value in (None, [], {}, {"prefix": 1, "suffix": "", "one_line": True}, {"prefix": "", "suffix": ""}):
        assert PromptTemplate.from_dict(value) is None


@given(WORDS)
def test_what_a_bank_puts_around_the_rows_is_no_part_of_them(words):
    rows = [Example(instruction_prompt("Say it.", word), ("x",)) for word in words]
    around = "<user>{input}<end>\n<assistant>\n"
    inside = [Example(around.replace("{input}", row.input), row.outputs) for row in rows]
    assert PromptTemplate.of(inside, within=around) == PromptTemplate.of(rows)
