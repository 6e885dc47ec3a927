"""`check_bank`: every file of a bank read once and verified, all problems in one report."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from statistics import median
from typing import Any

from lorameta.adapter import peft_format
from lorameta.adapter.peft_config import LoraSettings
from lorameta.adapter.shared_init import groups, looked_at
from lorameta.bank.bank import AdapterBank
from lorameta.bank.check_report import CheckReport
from lorameta.bank.duplicates import equal_updates
from lorameta.bank.fitted import fitted
from lorameta.bank.garbage import retired
from lorameta.bank.manifest import base_problem, disagreements, facts_of, inside
from lorameta.bank.scan import Layout, Measures, scan_directory
from lorameta.bank.shapes import odd_shapes
from lorameta.bank.sharding.scan import scan_shard
from lorameta.encoder.tokens import tokenizer_hash
from lorameta.errors import BankError, LorametaError
from lorameta.files.atomic import sha256_file
from lorameta.files.links import is_directory, is_file, reason

__all__ = ["CheckReport", "check_bank", "check_directory"]

#: An update whose norm exceeds the median by this factor is worth a look before it is mixed.
LARGE_NORM = 100.0
#: More threads than this wait for the disk.
_THREADS = 8


def check_directory(path: str | PathLike[str]) -> CheckReport:
    """Check a bank that perhaps cannot even be opened: that, too, is in the report."""
    try:
        bank = AdapterBank.open(path)
    except LorametaError as error:
        return CheckReport(problems=[str(error)])
    return check_bank(bank)


def check_bank(
    bank: AdapterBank, *, workers: int | None = None, progress: Callable[[int], object] = lambda count: None
) -> CheckReport:
    """Read and verify all files of a bank (or of a view: its adapters alone, and what they share).

    Problems: files that are missing, truncated, empty, pickled, git-LFS pointers or HTML; wrong hashes; NaN; halves
    without the other; shapes that do not fit the rank, the record or the other adapters; DoRA and other variants that
    are no plain LoRA; another base; summaries of other adapters or another tokenizer; links out of the bank.
    Warnings: updates that are zero, or more than 100 times as large as the median; adapters that are the same file or
    the same update; modules that some adapters lack; stray directories; operators and leave-one-out records of other
    adapters. Notes: which adapters started from the same A.

    Every file is read once, a tensor at a time, so memory stays at some megabytes a thread.

    Parameters
    ----------
    bank : AdapterBank
    workers : int, optional
        Threads; by default as many as there are cores, at most 8.
    progress : callable
        Told the number of bytes of adapters, each time that some were read.

    Returns
    -------
    CheckReport
    """
    report = CheckReport()
    _check_base(bank, report)
    _check_summaries(bank, report)
    notes: dict[str, list[str]] = {name: [] for name in bank}
    measures: dict[str, Measures] = {}
    with ThreadPoolExecutor(workers or min(_THREADS, os.cpu_count() or 1)) as pool:

        def look(name: str) -> Measures | None:
            try:
                found = _look(bank, name, notes[name])
            except (LorametaError, OSError) as error:  # one adapter that cannot be read does not hide the others
                notes[name].append(f"it cannot be read: {reason(error) if isinstance(error, OSError) else error}")
                found = None
            progress(bank.records[name].bytes)
            return found

        away = set(bank.away)
        alone = [name for name in bank if not bank.records[name].shard and name not in away]
        for name, found in zip(alone, pool.map(look, alone), strict=True):
            if found is not None:
                measures[name] = found
                report.bytes += bank.records[name].bytes
        measures |= _look_at_shards(bank, notes, pool, progress, report)
    report.adapters = len(bank) - len(away)
    if away:
        report.notes.append(
            f"{len(away)} adapters are on the Hub and not here yet; each is verified when it is fetched"
        )
    for name in bank:
        report.problems += [f"{name}: {note}" for note in notes[name]]
    sound = {name: measures[name] for name in bank if name in measures and not notes[name]}
    odd = odd_shapes({name: one.layout for name, one in sound.items()})
    report.problems += [f"{name}: {problem}" for name, problem in odd]
    compare_norms({name: one.norm for name, one in sound.items()}, report)
    _note_missing_modules({name: one.layout for name, one in sound.items()}, report)
    report.warnings += equal_updates(bank, sound)
    _find_strays(bank, report)
    _note_starts(sound, report)
    return report


def _look(bank: AdapterBank, name: str, notes: list[str]) -> Measures | None:
    """Read a PEFT directory of the bank; everything that is wrong with it is noted."""
    record = bank.records[name]
    try:
        directory = inside(bank.path, record.path)
        for file in (peft_format.CONFIG, peft_format.WEIGHTS):
            inside(bank.path, f"{record.path}/{file}")
    except BankError as error:
        notes.append(str(error))
        return None
    scan = scan_directory(directory, notes)
    if scan is not None:
        notes += disagreements(record, facts_of(scan, scan.settings))
        if problem := base_problem(bank.path, directory, bank.manifest.base, scan.settings):
            notes.append(problem)
        return scan.measures
    settings, _ = peft_format.read_config(directory, [])
    if settings and (problem := base_problem(bank.path, directory, bank.manifest.base, settings)):
        notes.append(problem)
    return None


def _look_at_shards(
    bank: AdapterBank,
    notes: dict[str, list[str]],
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object],
    report: CheckReport,
) -> dict[str, Measures]:
    """Read the shards one after the other; what is wrong with an adapter in them is noted."""
    measures: dict[str, Measures] = {}
    members: dict[str, dict[str, tuple[Any, LoraSettings]]] = defaultdict(dict)
    facts: dict[str, dict[str, Any]] = {}
    for name, record in bank.records.items():
        if not record.shard:
            continue
        try:
            directory = inside(bank.path, record.path)
            inside(bank.path, f"{record.path}/{peft_format.CONFIG}")
            settings, digest = peft_format.read_config(directory, notes[name])
        except BankError as error:
            notes[name].append(str(error))
            continue
        if settings is None:
            continue
        members[record.shard][name] = (record, settings)
        facts[name] = {"rank": settings.rank, "alpha": settings.alpha, "rslora": settings.rslora}
        facts[name]["config_sha256"] = digest
        if problem := base_problem(bank.path, directory, bank.manifest.base, settings):
            notes[name].append(problem)
    for file, having in members.items():
        try:
            path = inside(bank.path, file)
        except BankError as error:
            report.problems.append(f"{file}: {error}")
            continue
        found = scan_shard(path, bank.manifest.shards[file], having, pool, progress)
        report.problems += [f"{file}: {problem}" for problem in found.problems]
        report.bytes += found.bytes
        for name, rows in found.notes.items():
            notes[name] += rows
        for name, one in found.measures.items():
            facts[name]["targets"] = tuple(sorted({module.rpartition(".")[2] for module in one.layout}))
            notes[name] += disagreements(bank.records[name], facts[name])
            measures[name] = one
        for name in set(having) - set(found.measures):
            if not notes[name] and not found.problems:  # read it again, for what is not finite, tensor by tensor
                adapter, problems = bank.inspect(name)
                notes[name] += problems
                if adapter is not None and not problems:
                    report.warnings.append(f"{name}: its update has norm {adapter.norm():.3g}")
    return measures


def _check_base(bank: AdapterBank, report: CheckReport) -> None:
    base = bank.manifest.base
    for file, expected in sorted(base.sha256.items()):
        try:
            path = inside(bank.path, f"{base.model}/{file}")
            if not is_file(path):
                report.problems.append(f"base: {base.model}/{file} is missing; get the bank again")
            elif sha256_file(path) != expected:
                report.problems.append(f"base: {base.model}/{file} is not the file that bank.json was written with")
            else:
                report.bytes += path.stat().st_size
        except BankError as error:
            report.problems.append(f"base: {error}")
        except OSError as error:
            report.problems.append(f"base: {base.model}/{file} cannot be read: {reason(error)}")
    if not base.sha256 and Path(base.model).is_absolute() and not is_directory(Path(base.model)):
        report.warnings.append(f"base: {base.model} is not on this machine; the bank names it by its path")
    said = bank.manifest.encoders.get("tokens", {}).get("tokenizer_hash")
    if None not in (said, base.tokenizer_hash) and said != base.tokenizer_hash:
        report.problems.append("base: its tokenizer is not the one that the summaries' encoder used")
    _check_tokenizer(bank, report)


def _check_tokenizer(bank: AdapterBank, report: CheckReport) -> None:
    """The tokenizer that new datasets will be counted with must be the one that the bank's were."""
    expected, base = bank.manifest.base.tokenizer_hash, bank.manifest.base
    places = {"the bank's tokenizer": bank.tokenizer_path}
    if not base.sha256 and Path(base.model).is_absolute():
        places["the base's tokenizer"] = Path(base.model)
    for what, place in places.items():
        if expected is None or place is None or not is_file(place / "tokenizer.json"):
            continue
        if f"{base.model}/tokenizer.json" in "\n".join(report.problems):
            continue  # it is not even the file that was written
        try:
            if tokenizer_hash(place) != expected:
                report.problems.append(
                    f"base: {what} ({place}) is another one than that of the summaries; get the right one, or "
                    "build the bank again"
                )
        except BankError as error:
            report.problems.append(f"base: {error}")


def _check_summaries(bank: AdapterBank, report: CheckReport) -> None:
    try:
        summaries = bank.summaries
    except BankError as error:
        report.problems.append(f"summaries: {error}")
        return
    report.bytes += bank.manifest.summaries["bytes"]
    expected = bank.manifest.base.tokenizer_hash
    if summaries.tokenizer_hash is not None and expected is not None and summaries.tokenizer_hash != expected:
        report.problems.append("summaries: they were made with another tokenizer than the base's; make them again")


def compare_norms(norms: dict[str, float], report: CheckReport) -> None:
    usual = median([norm for norm in norms.values() if norm > 0] or [0.0])
    for name, norm in norms.items():
        if norm == 0:
            report.warnings.append(f"{name}: its update is zero; it was not trained, leave it out")
        elif norm > LARGE_NORM * usual:
            report.warnings.append(f"{name}: its update has norm {norm:.3g}, the median is {usual:.3g}")


def _note_missing_modules(layouts: Mapping[str, Layout], report: CheckReport) -> None:
    every = {module for layout in layouts.values() for module in layout}
    report.warnings += [
        f"{name}: it lacks {len(every) - len(layout)} of the {len(every)} modules that adapters of this bank change; "
        "they count as zero"
        for name, layout in sorted(layouts.items())
        if len(layout) < len(every)
    ]


def _find_strays(bank: AdapterBank, report: CheckReport) -> None:
    known = {Path(record.path).as_posix() for record in bank.manifest.adapters} | retired(bank.path)
    for config in sorted(bank.path.glob(f"adapters/*/{peft_format.CONFIG}")):
        path = config.parent.relative_to(bank.path).as_posix()
        if path not in known:
            report.warnings.append(f"{path}: bank.json does not name it, so it is not used")
    report.warnings += [
        f"{one.file}: it was made for other adapters than those of this bank, so it is not used; {one.remedy}"
        for one in fitted(bank)
        if not one.valid and len(bank) == len(bank.manifest.adapters)
    ]


def _note_starts(sound: Mapping[str, Measures], report: CheckReport) -> None:
    sketches = {name: [one.sketches[m] for m in looked_at(list(one.layout))] for name, one in sound.items()}
    layouts = {
        name: tuple(sorted((module, rank, d_in) for module, (rank, _, d_in, _) in one.layout.items()))
        for name, one in sound.items()
    }
    for group in groups(sketches, layouts):
        who = f"{len(group.ids)} adapters" if len(group.ids) > 3 else ", ".join(group.ids)
        report.notes.append(f"{who} share an initial A (mean cosine {group.cosine:.2f})")
