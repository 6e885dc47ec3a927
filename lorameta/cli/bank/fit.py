"""`lorameta bank fit`: the neural operator, fitted to a bank."""

from __future__ import annotations

from typing import Annotated

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import Name
from lorameta.cli.progress import counting
from lorameta.errors import UsageError


def fit(
    bank: Name = common.DEFAULT_BANK,
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
    offline: common.Offline = False,
    debug: common.Debug = False,
) -> None:  # fmt: skip
    """Fit the neural operator to a bank and keep it there, for `generate --operator neural`.

    Each adapter is rebuilt from the others. The errors are relative and squared: 0 is the adapter itself, 1 is as far
    from it as no update at all, so an operator that does not come below 1 has learned nothing of use.
    """
    from lorameta.distance import DISTANCES
    from lorameta.mixing.neural_fit import FOLDS, bank_gram, fittable, save
    from lorameta.mixing.neural_fit import fit as fit_to

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
