"""`lorameta bank add`: one adapter more in a bank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import outdated, show_outdated
from lorameta.cli.declare import arg, opt, switch
from lorameta.cli.progress import waiting
from lorameta.cli.reading import with_file_reading


@with_file_reading
def add(
    bank: Annotated[str, arg("BANK", "A bank's directory.")],
    adapter: Annotated[Path, arg("ADAPTER", "A PEFT directory.")],
    data: Annotated[Path | None, opt("FILE", "The rows that it was trained on, to be summarised.")] = None,
    summary: Annotated[Path | None, opt("FILE", "A summaries file, where the rows are not at hand.")] = None,
    id: Annotated[str | None, opt("ID", "That of the directory by default.")] = None,
    task: Annotated[str | None, opt("NAME", "The task's name; the id by default.")] = None,
    family: Annotated[str | None, opt("NAME", "The group of related tasks.")] = None,
    licence: Annotated[str | None, opt("SPDX", "Of the rows.")] = None,
    description: Annotated[str | None, opt("TEXT", "The task's instruction.")] = None,
    replace: Annotated[bool, switch("--replace", "Put it in the place of the adapter that has this id.")] = False,
    link: Annotated[bool, switch("--link", "Hard links instead of copies, where that is possible.")] = False,
    tokenizer: Annotated[str | None, opt("DIR", "Of the base's tokenizer.json, if the bank carries none.")] = None,
    reading: Any = None,
    as_json: common.AsJson = False,
) -> None:
    """Add an adapter to a bank. The others are not read again, and who reads the bank meanwhile is not disturbed."""
    from lorameta.bank import AdapterBank
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
    stale = outdated(now)
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
    show_outdated(stale)
