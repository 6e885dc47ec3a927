"""`lorameta bank add`: one adapter more in a bank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.progress import waiting
from lorameta.cli.reading import with_file_reading


@with_file_reading
def add(
    bank: Annotated[str, typer.Argument(metavar="BANK", help="A bank's directory.")],
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT directory.")],
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The rows that it was trained on, to be summarised.")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A summaries file, where the rows are not at hand.")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", metavar="ID", help="That of the directory by default.")] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="The task's name; the id by default.")] = None,
    family: Annotated[str | None, typer.Option(metavar="NAME", help="The group of related tasks.")] = None,
    licence: Annotated[str | None, typer.Option(metavar="SPDX", help="Of the rows.")] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="The task's instruction.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of the adapter that has this id.")
    ] = False,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies, where that is possible.")] = False,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="DIR", help="Of the base's tokenizer.json, if the bank carries none.")
    ] = None,
    reading: Any = None,
    as_json: common.AsJson = False,
) -> None:
    """Add an adapter to a bank. The others are not read again, and who reads the bank meanwhile is not disturbed."""
    from lorameta.bank import AdapterBank
    from lorameta.bank.fitted import fitted
    from lorameta.bank_builder.members import add as add_to

    opened = common.open_bank(bank)
    reads: list[Any] = []
    with waiting("adding"):
        record = add_to(
            opened, adapter, data=data, summary=summary, id=id, replacing=replace, link=link, tokenizer=tokenizer,
            reading=reading.for_files(), reads=reads,
            task=task, family=family, licence=licence, description=description,
        )  # fmt: skip
    for report in reads:
        typer.echo(report.line(), err=True)
    now = AdapterBank.open(opened.path)
    stale = [one for one in fitted(now) if not one.valid]
    if as_json:
        common.print_json(
            {
                "bank": now.name,
                "id": record.id,
                "path": record.path,
                "sha256": record.sha256,
                "adapters": len(now),
                **({"read": reads[0].as_dict()} if reads else {}),
                "invalid": [one.file for one in stale],
                "total_seconds": common.elapsed(),
            }
        )
        return
    typer.echo(f"Added {record.id} to the bank {now.name}, which has {len(now)} adapters now.")
    for one in stale:
        typer.echo(f"note: {one.file} was made for other adapters and is not used any more; {one.remedy}")
