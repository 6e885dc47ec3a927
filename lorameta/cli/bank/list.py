"""`lorameta bank list`: what is in a bank."""

from __future__ import annotations

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import METRIC_HEADERS, METRIC_NOTE, METRICS, Name, scores


def list(bank: Name = common.DEFAULT_BANK, as_json: common.AsJson = False) -> None:
    """List a bank's adapters and what each scores on its own task."""
    records = common.open_bank(bank).records
    rows = []
    for name, record in records.items():
        rows.append(
            {
                "id": name,
                "family": record.family,
                "description": record.description,
                "rank": record.rank,
                "train_rows": record.rows.get("train"),
                **scores(record),
                "licence": record.licence,
                "source": record.source,
            }
        )
    if as_json:
        common.print_json({"bank": bank, "adapters": rows})
        return
    from lorameta.report.table import table

    shown = ["id", "family", "train_rows", *METRICS, "licence"]
    headers = ["adapter", "family", "rows", *METRIC_HEADERS, "licence"]
    typer.echo(table(headers, [[row[key] for key in shown] for row in rows], align="<<>>>>><"))
    typer.echo(f"\n{len(rows)} adapters. {METRIC_NOTE}.")
