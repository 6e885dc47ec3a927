"""`lorameta bank info`: what a bank is."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING, Any

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import METRIC_HEADERS, METRIC_NOTE, METRICS, Name, scores

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank


def info(bank: Name = common.DEFAULT_BANK, as_json: common.AsJson = False) -> None:
    """Say what a bank is: its base, its adapters, their licences."""
    facts = _facts(common.open_bank(bank))
    if as_json:
        common.print_json(facts)
        return
    from lorameta.report.mixture import aligned
    from lorameta.report.table import table

    lines = [
        ("Bank", f"{facts['name']}, in {facts['path']} ({facts['megabytes']:.1f} MB)"),
        ("Base model", facts["base_model"]),
        ("Adapters", f"{facts['adapters']} (rank {_several(facts['ranks'])}, on {_several(facts['targets'])})"),
        ("Stored", f"{facts['int8']} of them in 8 bits, with one A for all" if facts["int8"] else ""),
        ("On the Hub", _away(facts)),
        ("Left out", f"{facts['left_out']} (bank.json says why)"),
        ("Summaries", ", ".join(facts["summaries"])),
        ("Fitted to it", ", ".join(one["name"] for one in facts["fitted"] if one["valid"])),
        ("Out of date", "; ".join(f"{one['name']}: {one['remedy']}" for one in facts["fitted"] if not one["valid"])),
        ("Licences", _several(facts["licences"])),
    ]
    typer.echo(aligned([line for line in lines if line[1]]))
    rows = [[name, family["adapters"], *map(family.get, METRICS)] for name, family in facts["families"].items()]
    typer.echo(f"\n{table(['family', 'adapters', *METRIC_HEADERS], rows, align='<>>>>>')}")
    typer.echo(f"\n{METRIC_NOTE}; here the means of a family. `lorameta bank list` shows the adapters one by one.")


def _facts(bank: AdapterBank) -> dict[str, Any]:
    """Return what `bank info` tells, for people and machines alike."""
    records = bank.records.values()
    families: dict[str, dict[str, Any]] = {}
    for family in sorted({record.family for record in records}):
        members = [record for record in records if record.family == family]
        families[family] = {
            "adapters": len(members),
            **{metric: _mean([scores(record)[metric] for record in members]) for metric in METRICS},
        }
    from lorameta.bank.fitted import fitted

    summaries = bank.summaries
    return {
        "name": bank.name,
        "path": str(bank.path),
        "megabytes": round(sum(file.stat().st_size for file in bank.path.rglob("*") if file.is_file()) / 1e6, 1),
        "base_model": bank.base_model,
        "adapters": len(bank),
        "int8": sum("bits" in bank.manifest.shards.get(record.shard, {}) for record in records),
        "away": len(bank.away),
        "away_megabytes": round(sum(bank.records[name].bytes for name in bank.away) / 1e6, 1),
        "left_out": len(bank.manifest.left_out),
        "ranks": dict(Counter(str(record.rank) for record in records)),
        "targets": dict(Counter(target for record in records for target in record.targets)),
        "licences": dict(Counter(record.licence for record in records).most_common()),
        "summaries": [part for part in ("tokens", "sentence") if summaries.has(part)],
        "fitted": [
            {"file": one.file, "name": one.name, "valid": one.valid, "remedy": "" if one.valid else one.remedy}
            for one in fitted(bank)
        ],
        "families": families,
    }


def _away(facts: dict[str, Any]) -> str:
    """Return which adapters are not here yet; "" if all are."""
    if not facts["away"]:
        return ""
    return f"{facts['away']} of them ({facts['away_megabytes']:,.0f} MB), each fetched when a mix first needs it"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 4) if known else None


def _several(counts: dict[str, int]) -> str:
    """Return the names with their counts, the counts left out where they are all the same."""
    if len(set(counts.values())) <= 1:
        return ", ".join(counts)
    return ", ".join(f"{name} ({count})" for name, count in counts.items())
