"""`lorameta bank stack`: a bank's weights from directories into shards, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.declare import arg, opt, switch
from lorameta.cli.progress import counting
from lorameta.errors import UsageError

if TYPE_CHECKING:
    from lorameta.bank.sharding.move import Moved


def stack(
    bank: Annotated[str, arg("BANK", "A bank's directory.")],
    undo: Annotated[bool, switch("--undo", "Give each adapter a file of its own again.")] = False,
    restack: Annotated[
        bool, switch("--restack", "Also merge shards that are not full, and drop the rows of removed adapters.")
    ] = False,
    shard_size: Annotated[str | None, opt("SIZE", "A shard's size at most, e.g. 500MB; 4GB by default.")] = None,
    int8: Annotated[
        bool, switch("--int8", "Store B in 8 bits and the common A once, of adapters trained with --freeze-a.")
    ] = False,
    as_json: common.AsJson = False,
) -> None:
    """Move the weights of a bank's adapters into a few large files that mixes stream through, bit by bit.

    One shard after the other: the bank is whole at any moment, and a run that was stopped is finished by the next.
    """
    from lorameta.bank.sharding.quantize import quantize
    from lorameta.bank.sharding.stack import SHARD_BYTES
    from lorameta.bank.sharding.stack import stack as move
    from lorameta.bank.sharding.unstack import unstack

    if undo and (restack or shard_size is not None):
        raise UsageError("--undo makes directories, so it goes with neither --restack nor --shard-size")
    if int8 and (undo or restack or shard_size is not None):
        raise UsageError("--int8 makes one file, and goes with no other option")
    if bank in common.SHIPPED:
        raise UsageError("a bank that comes with lorameta stays as it is; copy its directory, and stack the copy")
    limit = common.bytes_of(shard_size) or SHARD_BYTES
    opened = common.open_bank(bank)
    total = sum(record.bytes for record in opened.records.values() if restack or bool(record.shard) == undo)
    with counting("unstacking" if undo else "stacking", total, "B") as progress:
        if int8:
            moved = quantize(opened.path, progress=progress)
        elif undo:
            moved = unstack(opened.path, progress=progress)
        else:
            moved = move(opened.path, shard_bytes=limit, restack=restack, progress=progress)
    if as_json:
        common.print_json(
            {
                "bank": opened.name,
                "undo": undo,
                **vars(moved),
                "bit_identical": not (int8 or moved.changed or moved.rounded),
                "total_seconds": common.elapsed(),
            }
        )
    else:
        typer.echo("\n".join(_lines(moved, opened.name, undo=undo)))


def _lines(moved: Moved, name: str, *, undo: bool) -> list[str]:
    shards = f"{len(moved.shards)} shard{'' if len(moved.shards) == 1 else 's'}"
    what: Any = f"{moved.adapters} adapter{'' if moved.adapters == 1 else 's'}, {common.file_size(moved.bytes)}"
    if not moved.adapters:
        where = "in directories of their own" if undo else "in shards"
        return [f"Nothing to move: all adapters of the bank {name} are {where}."]
    if not undo:
        lines = [f"Moved {what}, of the bank {name} into {shards} in {common.elapsed():.1f} s."]
        if moved.rounded:
            lines.append(f"float64 became float32: {', '.join(moved.rounded)}")
        return lines
    lines = [f"Moved {what}, of the bank {name} out of {shards} in {common.elapsed():.1f} s."]
    if not moved.changed:
        return [*lines, "They are bit by bit the files that were stacked."]
    return [
        *lines,
        f"{moved.adapters - len(moved.changed)} are bit by bit the files that were stacked; {len(moved.changed)} hold "
        "the same numbers in another order or under other names, and have a new hash:",
        ", ".join(moved.changed),
    ]
