"""`lorameta bank`: what a bank is (info), what is in it (list), whether it is whole (check), and a fit to it (fit)."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.progress import counting, waiting
from lorameta.errors import UsageError

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank, AdapterRecord

app = typer.Typer(
    help="Look into a bank of adapters (info, list, check), or fit the neural operator to it (fit).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

WHO = ("base", "adapter")
METRICS = ("base_exact_match", "adapter_exact_match", "base_rouge_l", "adapter_rouge_l")
METRIC_HEADERS = ("EM base", "adapter", "RL base", "adapter")
METRIC_NOTE = "EM: exact match, RL: ROUGE-L, on the test rows of each adapter's own task"

Name = Annotated[str, typer.Argument(metavar="BANK", help="A bank's directory, or the one that comes with lorameta.")]


@app.command("info")
def info(bank: Name = common.EMBEDDED, as_json: common.AsJson = False, debug: common.Debug = False) -> None:
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
        ("Left out", f"{facts['left_out']} (bank.json says why)"),
        ("Summaries", ", ".join(facts["summaries"])),
        ("Licences", _several(facts["licences"])),
    ]
    typer.echo(aligned([line for line in lines if line[1]]))
    rows = [[name, family["adapters"], *map(family.get, METRICS)] for name, family in facts["families"].items()]
    typer.echo(f"\n{table(['family', 'adapters', *METRIC_HEADERS], rows, align='<>>>>>')}")
    typer.echo(f"\n{METRIC_NOTE}; here the means of a family. `lorameta bank list` shows the adapters one by one.")


@app.command("list")
def list_adapters(bank: Name = common.EMBEDDED, as_json: common.AsJson = False, debug: common.Debug = False) -> None:
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
                **_scores(record),
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


@app.command("check")
def check(bank: Name = common.EMBEDDED, as_json: common.AsJson = False, debug: common.Debug = False) -> None:
    """Verify every file of a bank: hashes, shapes, numbers, names.

    All problems are reported at once; the exit code is 2 if there are any.
    """
    opened = common.open_bank(bank)
    with waiting("checking"):
        report = opened.check()
    if as_json:
        common.print_json({"bank": opened.name, **report.as_dict(), "total_seconds": common.elapsed()})
    else:
        for kind, lines in (("problem", report.problems), ("warning", report.warnings)):
            for line in lines:
                typer.echo(f"{kind}: {line}")
        count = len(report.problems)
        verdict = "whole" if report.ok else f"damaged: {count} problem{'s' if count > 1 else ''}"
        read = f"{report.adapters} adapters, {report.bytes / 1e6:.1f} MB read in {common.elapsed():.1f} s"
        typer.echo(f"The bank {opened.name} is {verdict} ({read}).")
    if not report.ok:
        raise typer.Exit(2)


@app.command("fit")
def fit(
    bank: Name = common.EMBEDDED,
    distance: Annotated[
        list[str] | None,
        typer.Option(
            "--distance", "-d", metavar="NAME",
            help="A distance to fit to; may be given several times. By default all that the bank has summaries for.",
        ),
    ] = None,
    width: Annotated[int, typer.Option(min=1, metavar="N", help="Units of each hidden layer.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the network's start and of the cross-validation.")] = 0,
    as_json: common.AsJson = False,
    debug: common.Debug = False,
) -> None:  # fmt: skip
    """Fit the neural operator to a bank and keep it there, for `generate --operator neural`.

    Each adapter is rebuilt from the others. The errors are relative and squared: 0 is the adapter itself, 1 is as far
    from it as no update at all, so an operator that does not come below 1 has learned nothing of use.
    """
    from lorameta.distance import DISTANCES
    from lorameta.fit import FOLDS, bank_gram, fittable, save
    from lorameta.fit import fit as fit_to

    opened = common.open_bank(bank)
    names = list(dict.fromkeys(distance)) if distance else fittable(opened)
    if unknown := [name for name in names if name not in DISTANCES]:
        raise UsageError(f"unknown distance {', '.join(unknown)}; there are {', '.join(DISTANCES)}")
    for name in names:
        opened.summaries.part(DISTANCES[name].needs)
    with counting("multiplying adapters", len(opened), "adapters") as progress:
        gram = bank_gram(opened, progress=progress)
    fits, paths = [], []
    with counting("fitting", len(names), "distances") as progress:
        for name in names:
            fits.append(fit_to(opened, name, gram=gram, width=width, seed=seed))
            paths.append(save(fits[-1], opened))
            progress(1)
    if as_json:
        found = [{**one.as_dict(), "path": str(path)} for one, path in zip(fits, paths, strict=True)]
        common.print_json({"bank": opened.name, "fits": found, "total_seconds": common.elapsed()})
        return
    from lorameta.report.table import table

    ways = ("uniform", "normalized", "neural")
    rows = [
        [one.distance, *(errors.get(way) for errors in (one.operator.errors, one.cross_validated) for way in ways)]
        for one in fits
    ]
    typer.echo(f"Fitted to the {len(opened)} adapters of the bank {opened.name}; kept in {paths[0].parent}.\n")
    typer.echo(table(["distance", *ways, *(f"held-out {way}" for way in ways)], rows, align="<>>>>>>"))
    typer.echo(
        "\nMean relative squared error of an adapter rebuilt from the others; 1 is as bad as no update at all.\n"
        f"Held out: in {FOLDS} parts, each rebuilt from the others by an operator that was fitted to the others."
    )


def _facts(bank: AdapterBank) -> dict[str, Any]:
    """What `bank info` tells, for people and machines alike."""
    records = bank.records.values()
    families: dict[str, dict[str, Any]] = {}
    for family in sorted({record.family for record in records}):
        members = [record for record in records if record.family == family]
        families[family] = {
            "adapters": len(members),
            **{metric: _mean([_scores(record)[metric] for record in members]) for metric in METRICS},
        }
    summaries = bank.summaries
    return {
        "name": bank.name,
        "path": str(bank.path),
        "megabytes": round(sum(file.stat().st_size for file in bank.path.rglob("*") if file.is_file()) / 1e6, 1),
        "base_model": bank.base_model,
        "adapters": len(bank),
        "left_out": len(bank.manifest.left_out),
        "ranks": dict(Counter(str(record.rank) for record in records)),
        "targets": dict(Counter(target for record in records for target in record.targets)),
        "licences": dict(Counter(record.licence for record in records).most_common()),
        "summaries": [part for part in ("tokens", "sentence") if summaries.has(part)],
        "families": families,
    }


def _scores(record: AdapterRecord) -> dict[str, float | None]:
    """What base and adapter scored on the test rows of the adapter's own task; None where it was not measured."""
    test = record.scores.get("test", {})
    return {f"{who}_{metric}": test.get(who, {}).get(metric) for metric in ("exact_match", "rouge_l") for who in WHO}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 4) if known else None


def _several(counts: dict[str, int]) -> str:
    """Names with their counts, the counts left out where they are all the same."""
    if len(set(counts.values())) <= 1:
        return ", ".join(counts)
    return ", ".join(f"{name} ({count})" for name, count in counts.items())
