"""What `lorameta bank build` does with adapters on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import made_facts, show_notes
from lorameta.cli.progress import counting
from lorameta.errors import UsageError


def build_from_hub(out: Path | None, source: Mapping[str, Any], *, as_json: bool, **options: Any) -> None:
    """Make the index that `source` asks for, say what is in it, and end with 1 if something is not."""
    from lorameta.bank.hub.client import Client
    from lorameta.bank.hub.presets import preset
    from lorameta.bank.locate import cached_bank
    from lorameta.bank_builder.hub import build, collect

    ((kind, value),) = source.items()
    if kind == "preset":
        collection = preset(value)
        out = out or cached_bank(value)
    if out is None:
        raise UsageError("OUT is missing: name a new directory for the bank")
    if kind == "list":
        collection = collect.of_list(value)
    client = Client("making a bank out of adapters on the Hub")
    if kind == "author":
        collection = collect.of_author(client, value)
    elif kind == "collection":
        collection = collect.of_collection(client, value)
    made = build.build(out, collection, client=client, counting=counting, **options)
    if as_json:
        common.print_json(made_facts(made))
    else:
        _print(made, kind, value)
    if not made.complete:
        raise typer.Exit(1)


def _print(made: Any, kind: str, value: Any) -> None:
    from lorameta.bank.locate import cached_bank

    name = value if kind == "preset" and made.path == cached_bank(value).resolve() else made.path
    show_notes(made.left_out, made.notes, made.renamed)
    typer.echo(
        f"Made a bank of {made.adapters} adapters in {made.path} in {common.elapsed():.1f} s. They stay on the Hub "
        "until a mix needs them.\n"
        f"Use it with: lorameta generate DATA --bank {common.quoted(name)} -o ADAPTER"
    )
    if made.left_out:
        typer.echo(f"{len(made.left_out)} adapters are left out; the same command asks for them again.")
