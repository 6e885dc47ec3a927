"""`lorameta bank check`: whether a bank is whole."""

from __future__ import annotations

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import Name, megabytes
from lorameta.cli.progress import counting


def check(bank: Name = common.DEFAULT_BANK, as_json: common.AsJson = False) -> None:
    """Verify every file of a bank: hashes, shapes, numbers, names.

    All problems are reported at once; the exit code is 2 if there are any.
    """
    from lorameta.bank import check_bank

    opened = common.open_bank(bank)
    total = sum(record.bytes for record in opened.records.values())
    with counting("checking", total // 1_000_000, "MB") as advance:
        report = check_bank(opened, progress=megabytes(advance))
    if as_json:
        common.print_json({"bank": opened.name, **report.as_dict(), "total_seconds": common.elapsed()})
    else:
        for kind, lines in (("problem", report.problems), ("warning", report.warnings), ("note", report.notes)):
            for line in lines:
                typer.echo(f"{kind}: {line}")
        count = len(report.problems)
        verdict = "whole" if report.ok else f"damaged: {count} problem{'s' if count > 1 else ''}"
        read = f"{report.adapters} adapters, {report.bytes / 1e6:.1f} MB read in {common.elapsed():.1f} s"
        typer.echo(f"The bank {opened.name} is {verdict} ({read}).")
    if not report.ok:
        raise typer.Exit(2)
