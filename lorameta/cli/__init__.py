"""The command `lorameta`: one verb a file. Only typer is imported before a verb runs, so that help comes at once."""

from __future__ import annotations

import sys

import typer

from lorameta.cli import common
from lorameta.cli.verbs import group

#: Verb → the first sentence of its help.
VERBS = {
    "generate": "Make an adapter for your rows and write it as a PEFT directory.",
    "explain": "Show what an adapter for your rows would be mixed from.",
    "refine": "Train an adapter further on your rows, for as long as you say, and write the best state as a new "
    "adapter.",
    "fit": "Fit the end of a base model to labelled rows: forward passes only, no bank, no gradient through the model.",
    "finetune": "Train a LoRA adapter from scratch on your rows: the baseline of what is generated or refined.",
    "ask": "Ask an adapter a question.",
    "evaluate": "Score the base model and adapters on labelled rows, side by side.",
    "export": "Write an adapter for other runtimes than PEFT.",
    "push": "Publish an adapter and its card on the Hub.",
    "ui": "Open a page on this machine: drop a file, generate an adapter, ask it, take it along.",
    "doctor": "Say what this machine can do for a base model: generate adapters, run it, refine an adapter.",
    "bank": "Make a bank of adapters (train, build, add, remove), look into it (info, list, check), change how it is "
    "kept (stack), or fit the neural operator to it (fit).",
}


def _version(value: bool) -> None:
    if value:
        from lorameta import __version__

        typer.echo(f"lorameta {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Declare the option that only the command itself has."""


app = group(
    "lorameta.cli",
    VERBS,
    callback=_options,
    name="lorameta",
    help="A LoRA adapter for your dataset in seconds, on a CPU, without a gradient step.",
    epilog="Exit codes: 0 done, 1 the work failed, 2 the call or the data was wrong.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; every error ends in a message and an exit code, a traceback only with --debug."""
    common.use_plain_output()
    try:
        app()
    except Exception as error:
        if common.debugging:
            raise
        sys.exit(common.fail(error))


__all__ = ["app", "main"]
