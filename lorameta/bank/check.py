"""`check_bank`: every file of a bank read and verified, all problems in one report."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from lorameta import peft_format
from lorameta.atomic import sha256_file
from lorameta.bank.manifest import inside
from lorameta.errors import BankError

if TYPE_CHECKING:
    from lorameta.bank.bank import AdapterBank

#: An update whose norm exceeds the median by this factor is worth a look before it is mixed.
LARGE_NORM = 100.0


@dataclass
class CheckReport:
    """What a check found.

    Attributes
    ----------
    problems : list of str
        What makes the bank, or a part of it, unusable.
    warnings : list of str
        What is odd and may be meant.
    adapters, bytes : int
        How much was read.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    adapters: int = 0
    bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is no problem; there may be warnings."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "ok": self.ok,
            "problems": self.problems,
            "warnings": self.warnings,
            "adapters": self.adapters,
            "bytes": self.bytes,
        }


def check_directory(path: str | PathLike[str]) -> CheckReport:
    """Check a bank that perhaps cannot even be opened: that, too, is in the report."""
    from lorameta.bank.bank import AdapterBank

    try:
        bank = AdapterBank.open(path)
    except BankError as error:
        return CheckReport(problems=[str(error)])
    return check_bank(bank)


def check_bank(bank: AdapterBank) -> CheckReport:
    """Read and verify all files of a bank (or of a view: its adapters alone, and what they share).

    Problems: files that are missing, truncated, empty, pickled, git-LFS pointers or HTML; wrong hashes; NaN; halves
    without the other; shapes that do not fit the rank, the record or the other adapters; another base; summaries of
    other adapters or another tokenizer; links out of the bank. Warnings: updates that are zero, or more than 100
    times as large as the median; adapters that are the same file; modules that some adapters lack; stray directories.
    """
    report = CheckReport()
    _check_base(bank, report)
    _check_summaries(bank, report)
    norms: dict[str, float] = {}
    shapes: dict[str, dict[tuple[int, int], list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in bank:
        adapter, notes = bank.inspect(name)
        report.adapters += 1
        report.problems += [f"{name}: {note}" for note in notes]
        if adapter is None or notes:
            continue
        report.bytes += bank.records[name].bytes
        norms[name] = adapter.norm()
        for module, pair in adapter.modules.items():
            shapes[module][pair.shape].append(name)
    _compare_shapes(shapes, list(norms), report)
    _compare_norms(norms, report)
    _find_doubles_and_strays(bank, report)
    return report


def _check_base(bank: AdapterBank, report: CheckReport) -> None:
    base = bank.manifest.base
    for file, expected in sorted(base.sha256.items()):
        try:
            path = inside(bank.path, f"{base.model}/{file}")
            if not path.is_file():
                report.problems.append(f"base: {base.model}/{file} is missing; get the bank again")
            elif sha256_file(path) != expected:
                report.problems.append(f"base: {base.model}/{file} is not the file that bank.json was written with")
            else:
                report.bytes += path.stat().st_size
        except (BankError, OSError) as error:
            report.problems.append(f"base: {error}")
    hashes = {base.tokenizer_hash, bank.manifest.encoders.get("tokens", {}).get("tokenizer_hash")} - {None}
    if len(hashes) > 1:
        report.problems.append("base: its tokenizer is not the one that the summaries' encoder used")


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


def _compare_shapes(shapes: dict[str, dict[tuple[int, int], list[str]]], names: list[str], report: CheckReport) -> None:
    for module, found in sorted(shapes.items()):
        usual = max(found, key=lambda shape: len(found[shape]))
        for shape, having in found.items():
            if shape != usual:
                report.problems += [f"{name}: {module} is {shape}, that of the others {usual}" for name in having]
    lacking: dict[str, int] = defaultdict(int)
    for found in shapes.values():
        for name in set(names) - {name for having in found.values() for name in having}:
            lacking[name] += 1
    report.warnings += [
        f"{name}: it lacks {count} of the {len(shapes)} modules that adapters of this bank change; they count as zero"
        for name, count in sorted(lacking.items())
    ]


def _compare_norms(norms: dict[str, float], report: CheckReport) -> None:
    usual = median([norm for norm in norms.values() if norm > 0] or [0.0])
    for name, norm in norms.items():
        if norm == 0:
            report.warnings.append(f"{name}: its update is zero; it was not trained, leave it out")
        elif norm > LARGE_NORM * usual:
            report.warnings.append(f"{name}: its update has norm {norm:.3g}, the median is {usual:.3g}")


def _find_doubles_and_strays(bank: AdapterBank, report: CheckReport) -> None:
    same: dict[str, list[str]] = defaultdict(list)
    for name, record in bank.records.items():
        same[record.sha256].append(name)
    report.warnings += [f"{', '.join(names)}: they are the same file" for names in same.values() if len(names) > 1]
    known = {Path(record.path).as_posix() for record in bank.manifest.adapters}
    for config in sorted(bank.path.glob(f"adapters/*/{peft_format.CONFIG}")):
        path = config.parent.relative_to(bank.path).as_posix()
        if path not in known:
            report.warnings.append(f"{path}: bank.json does not name it, so it is not used")
