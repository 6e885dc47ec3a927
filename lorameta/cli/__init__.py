"""The command `lorameta`: one verb a file. Only typer is imported before a verb runs, so that help comes at once."""

from __future__ import annotations

import sys

import typer

from lorameta.cli import ask, bank, common, doctor, evaluate, explain, export, finetune, fit, generate, push, refine, ui

app = typer.Typer(
    name="lorameta",
    help="A LoRA adapter for your dataset in seconds, on a CPU, without a gradient step.",
    epilog="Exit codes: 0 done, 1 the work failed, 2 the call or the data was wrong.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich alone would take longer to import than the help takes to print
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.generate)
app.command("explain")(explain.explain)
app.command("refine")(refine.refine)
app.command("fit")(fit.fit)
app.command("finetune")(finetune.finetune)
app.command("ask")(ask.ask)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("push")(push.push)
app.command("ui")(ui.ui)
app.command("doctor")(doctor.doctor)
app.add_typer(bank.app, name="bank")


def _version(value: bool) -> None:
    if value:
        from lorameta import __version__

        typer.echo(f"lorameta {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    offline: common.Offline = False,
    debug: common.Debug = False,
) -> None:
    """A LoRA adapter for your dataset in seconds, on a CPU, without a gradient step."""


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
