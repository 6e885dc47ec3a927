"""`lorameta ask`: answers of an adapter, to one prompt, to lines, or in a loop."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.declare import arg, opt, switch
from lorameta.cli.progress import waiting
from lorameta.errors import UsageError

if TYPE_CHECKING:
    from lorameta.ask import Answerer


def ask(
    adapter: Annotated[Path, arg("ADAPTER", "The adapter: a PEFT directory.")],
    prompt: Annotated[
        str | None,
        arg(
            "[PROMPT]",
            "An input or a whole prompt. Without one, each line of the standard input is one; in a terminal you are "
            "asked for them.",
        ),
    ] = None,
    instruction: Annotated[
        str | None, opt("TEXT", "What to do with an input; by default what the adapter's rows share.")
    ] = None,
    raw: Annotated[bool, switch("--raw", "Send the prompt as it is, without a template.")] = False,
    compare: Annotated[bool, switch("--compare", "Show the answer of the base alone as well.")] = False,
    base: Annotated[
        str | None, opt("DIR", "The base: a directory or a Hub id; by default the one the adapter names.")
    ] = None,
    max_new_tokens: Annotated[int, opt("N", "Longest answer.", min=1)] = 128,
    as_json: common.AsJson = False,
) -> None:
    """Ask an adapter a question.

    A bare input is enough: it is put into the prompt that the adapter's rows had in common. The answer is greedy and
    ends where the answers of those rows ended.
    """
    if raw and instruction is not None:
        raise UsageError("--raw sends the prompt as it is, without the --instruction; give one of them")
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty")
    with waiting("loading the base model"):
        from lorameta.ask import Answerer

        model = Answerer(adapter, base=base, instruction=instruction)
    answers = []
    for text in _prompts(prompt):
        if as_json:
            answers.append(_answer(model, text, raw, compare, max_new_tokens))
        else:
            _show(model, text, raw, compare, max_new_tokens, several=prompt is None)
    if as_json:
        template = None if raw or instruction is not None else model.template.as_dict()
        common.print_json(
            {
                "adapter": str(adapter),
                "base_model": model.base_model,
                "template": template,
                "answers": answers,
                **common.costs(),
            }
        )


def _prompts(prompt: str | None) -> Iterator[str]:
    """Yield the prompts of a run, one at a time."""
    if prompt is not None:
        yield prompt
        return
    lines: Iterable[str] = _typed() if sys.stdin.isatty() else sys.stdin
    given = False
    for line in lines:
        if line.strip():
            given = True
            yield line.strip()
    if not given and not sys.stdin.isatty():
        raise UsageError("there is no prompt: give one as an argument, or lines on the standard input")


def _typed() -> Iterator[str]:
    typer.echo("Type an input and press Enter; Ctrl-D or an empty line ends.", err=True)
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            typer.echo("", err=True)
            return
        if not line.strip():
            return
        yield line


def _answer(model: Answerer, text: str, raw: bool, compare: bool, limit: int) -> dict[str, Any]:
    found = {"input": text, "prompt": text if raw else model.prompt(text)}
    if compare:
        found["base"] = model.answer(text, with_adapter=False, max_new_tokens=limit, raw=raw)
    return found | {"answer": model.answer(text, max_new_tokens=limit, raw=raw)}


def _show(model: Answerer, text: str, raw: bool, compare: bool, limit: int, *, several: bool) -> None:
    """Print the answers as they come: the adapter's alone, or the base's above it."""

    def stream(part: str) -> None:
        typer.echo(part, nl=False)
        sys.stdout.flush()

    if several and not sys.stdin.isatty() and compare:
        typer.echo(f"input    {text}")
    for label, active in [("base     ", False)] * compare + [("adapter  " if compare else "", True)]:
        typer.echo(label, nl=False)
        model.answer(text, with_adapter=active, max_new_tokens=limit, on_text=stream, raw=raw)
        typer.echo("")
