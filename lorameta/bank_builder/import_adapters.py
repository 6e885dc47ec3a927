"""Adapters imported into a bank that is being built: copied, verified, and remembered, so that it is done once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorameta.adapter import peft_format
from lorameta.adapter.peft_config import LoraSettings
from lorameta.bank.manifest import base_problem, facts_of
from lorameta.bank.scan import Layout, scan_directory
from lorameta.bank.shapes import odd_shapes
from lorameta.bank_builder.base import BankBase
from lorameta.bank_builder.copying import copy_adapter
from lorameta.bank_builder.match import Source
from lorameta.files.resumable import ResumableFolder


@dataclass
class ImportedAdapter:
    """An adapter that lies in the work folder.

    Attributes
    ----------
    facts : dict
        What its files say for its record.
    layout : Layout
    copied : bool
        Whether bytes were copied in this run.
    notes : list of str
        What is odd about it.
    """

    facts: dict[str, Any]
    layout: Layout
    copied: bool = False
    notes: list[str] = field(default_factory=list)


def import_all(
    root: Path,
    work: Path,
    sources: list[Source],
    base: BankBase,
    bad: dict[str, list[str]],
    link: bool,
    progress: Callable[[int], object],
) -> dict[str, ImportedAdapter]:
    """Copy all adapters into ``work/adapters`` and verify them.

    Parameters
    ----------
    root, work : Path
        Of the bank, and for what is finished.
    sources : list of Source
    base : BankBase
    bad : dict
        Is extended by what is wrong: id → reasons.
    link : bool
        See :func:`lorameta.bank_builder.copying.copy_file`.
    progress : callable
        Told 1 after each.

    Returns
    -------
    dict of str to ImportedAdapter
        Those that can be used, except what `bad` lists.
    """

    def one_of(source: Source) -> tuple[ImportedAdapter | None, list[str]]:
        notes: list[str] = []
        imported = _import_one(root, work, source, base, link, notes)
        progress(1)
        return imported, notes

    imported: dict[str, ImportedAdapter] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for source, (one, notes) in zip(sources, pool.map(one_of, sources), strict=True):
            if notes or one is None:
                bad[source.id] = notes
            else:
                imported[source.id] = one
    for name, problem in odd_shapes({name: one.layout for name, one in imported.items()}):
        bad.setdefault(name, []).append(problem)
    return imported


def _import_one(
    root: Path, work: Path, source: Source, base: BankBase, link: bool, notes: list[str]
) -> ImportedAdapter | None:
    """Copy an adapter into the work folder and verify the copy, or take what an earlier run has verified."""
    place, ready = work / "adapters" / source.id, ResumableFolder(work / "ready")
    settings, _ = peft_format.read_config(source.adapter, [])
    if settings is not None and (problem := _base_problem(root, base, settings, source)):
        notes.append(problem)
    if notes or not (source.adapter / peft_format.WEIGHTS).is_file() or settings is None:
        peft_format.read_directory(source.adapter, notes)  # everything else that is wrong with it
        return None
    copied = copy_adapter(source.adapter, place, link=link, reuse=True)
    if (known := _verified(ready.stored(f"{source.id}.json", _stamp(place)))) is not None:
        return known
    scan = scan_directory(place, notes)
    if scan is None or notes:
        return None
    layout = scan.measures.layout
    facts = facts_of(scan, scan.settings)
    content = {"facts": facts, "layout": {module: list(one) for module, one in layout.items()}}
    ready.store(f"{source.id}.json", _stamp(place), content)
    imported = ImportedAdapter(facts, layout, copied)
    if scan.measures.norm == 0:
        imported.notes.append(f"{source.id}: its update is zero; it was not trained, or not saved after training")
    return imported


def _base_problem(root: Path, base: BankBase, settings: LoraSettings, source: Source) -> str | None:
    """Return why an adapter does not belong to the base, as the finished bank will see it."""
    carried = base.directory is not None and base.record.model == "base"
    if carried and not settings.base_model:
        return None
    problem = base_problem(root, source.adapter, base.record, settings)
    if problem and settings.base_model:
        problem += f", or say that it is the same with --base-name {settings.base_model} (may be repeated)"
    return problem


def _verified(content: dict[str, Any] | None) -> ImportedAdapter | None:
    """Return what an earlier run found in the very files that are there."""
    try:
        facts, layout = (content or {})["facts"], (content or {})["layout"]
        shapes = {module: (one[0], one[1], one[2], one[3]) for module, one in layout.items()}
        return ImportedAdapter({**facts, "targets": tuple(facts["targets"])}, shapes)
    except (KeyError, TypeError, IndexError, AttributeError):
        return None


def _stamp(place: Path) -> list[list[int]]:
    stats = [(place / name).stat() for name in (peft_format.CONFIG, peft_format.WEIGHTS)]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]
