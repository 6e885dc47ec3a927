"""`build`: a bank from a folder of adapters and the datasets behind them. What is finished is not done twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from lorameta.adapter import peft_format
from lorameta.bank import edit
from lorameta.bank.counting import Counting, silent
from lorameta.bank.garbage import retired
from lorameta.bank.lock import clear_work, has_work, locked, refuse_foreign, work_folder
from lorameta.bank.manifest import MANIFEST, read_manifest
from lorameta.bank.records import AdapterRecord, Manifest
from lorameta.bank.write import hash_files
from lorameta.bank_builder.base import BankBase, find_base, stage
from lorameta.bank_builder.import_adapters import ImportedAdapter, import_all
from lorameta.bank_builder.match import Source, plan
from lorameta.bank_builder.summarise import Summariser
from lorameta.data import ReadOptions, read_alike
from lorameta.encoder.join import join
from lorameta.encoder.summary import Summaries
from lorameta.errors import BankError, UsageError, violations
from lorameta.files.links import link_in, user_path


@dataclass(frozen=True)
class Built:
    """What :func:`build` did.

    Attributes
    ----------
    path : Path
        The bank.
    adapters : int
        How many are in it.
    left_out : tuple of dict
        ``id`` and ``reason`` of those that are not.
    copied, encoded : int
        Adapters copied and datasets encoded in this run; the others were finished in an earlier one.
    notes : tuple of str
        What is good to know.
    """

    path: Path
    adapters: int
    left_out: tuple[dict[str, str], ...] = ()
    copied: int = 0
    encoded: int = 0
    notes: tuple[str, ...] = ()


def build(
    out: str | PathLike[str],
    adapters: str | PathLike[str],
    *,
    base: str,
    datasets: str | PathLike[str] | None = None,
    summaries: str | PathLike[str] | None = None,
    index: str | PathLike[str] | None = None,
    name: str | None = None,
    revision: str | None = None,
    base_name: str | Sequence[str] | None = None,
    tokenizer: str | None = None,
    sentences: bool = False,
    copy_base: bool = False,
    link: bool = False,
    skip_bad: bool = False,
    reading: ReadOptions | None = None,
    counting: Counting = silent,
) -> Built:
    """Make a bank.

    Every adapter is copied and verified, every dataset summarised, each kept in a hidden folder of `out` as soon as it
    is finished; at the end they are moved into place and ``bank.json`` is written. A run that was killed is continued
    by the next one with the same `out`.

    Parameters
    ----------
    out : path
        A new or empty directory, or one in which an earlier run stopped.
    adapters : path
        Directory with one PEFT directory for each adapter; its name is the id.
    base : str
        The base model: a Hub id, or a directory. See :func:`lorameta.bank_builder.base.find_base`.
    datasets : path, optional
        Directory with ``<id>.jsonl`` (or .json, .csv, .tsv, .parquet): the rows that each adapter was trained on.
    summaries : path, optional
        A summaries file instead, see :meth:`lorameta.encoder.Summaries.save`.
    index : path, optional
        A table for names that do not match, and for facts about the tasks; see
        :func:`lorameta.bank_builder.match.plan`.
    name : str, optional
        The bank's name; by default that of the directory.
    revision, base_name, tokenizer, copy_base
        See :func:`lorameta.bank_builder.base.find_base`.
    sentences : bool
        Make sentence summaries too, for the distances on embeddings. Needs the extra `sentence`.
    link : bool
        Hard links instead of copies, where the file system can.
    skip_bad : bool
        Leave out what is refused, and say why in ``bank.json``, instead of stopping.
    reading : ReadOptions, optional
        How datasets are read.
    counting : callable
        For progress.

    Returns
    -------
    Built

    Raises
    ------
    BankError
        Adapters or datasets are refused; all of them with the reasons. Nothing finished is lost.
    UsageError
        The options cannot work, or there is a bank in `out` already.
    """
    root = user_path(out).resolve()
    if (datasets is None) == (summaries is None):
        raise UsageError("give the adapters' datasets (--datasets), or summaries of them (--summaries)")
    if summaries is not None and sentences:
        raise UsageError("sentence summaries are made of datasets; with --summaries, they are in the file or not")
    given = None if summaries is None else Summaries.load(user_path(summaries))
    sources, unused = plan(adapters, datasets, summarised=None if given is None else given.ids, index=index)
    found_base = find_base(
        root, base, revision=revision, name=base_name, tokenizer=tokenizer, carry=copy_base, said=_said(sources)
    )
    if (finished := _finished(root, sources)) is not None:
        return finished
    _refuse_foreign(root, found_base)
    parts = ("tokens", "sentence") if sentences else ("tokens",)
    summariser = Summariser(found_base.tokenizer, parts, reading or ReadOptions())
    if given is None:
        _ = summariser.tokenizer_hash  # so that a missing tokenizer or extra is found before the work
        _ = summariser.encoders()
    elif found_base.tokenizer and summariser.tokenizer_hash != given.tokenizer_hash and given.has("tokens"):
        raise BankError(f"{summaries} was made with another tokenizer than that of the base; make the summaries again")
    with locked(root, name="build.lock"):
        if (root / MANIFEST).exists():
            raise UsageError(f"{root} became a bank meanwhile; add to it with: lorameta bank add")
        work = work_folder(root, "build")
        _recover(root, work)
        bad: dict[str, list[str]] = {}
        with counting("importing", len(sources), "adapters") as progress:
            imported = import_all(root, work, sources, found_base, bad, link, progress)
        _stop_or_skip(bad, skip_bad, root, "adapters")
        kept = [source for source in sources if source.id not in bad]
        if given is None:
            found, encoded = _summarise(work, kept, summariser, bad, counting)
            _stop_or_skip(bad, skip_bad, root, "datasets")
            kept = [source for source in kept if source.id not in bad]
        else:
            found, encoded = given.select(source.id for source in kept), 0
        if not kept:
            raise BankError(violations(_lines(bad), f"no adapter is left, so no bank was written to {root}:"))
        manifest = _manifest(root, name, found_base, found, kept, imported, bad, summariser, given is None)
        moves = {record.path: work / "adapters" / record.id for record in manifest.adapters}
        moves |= stage(found_base, root, work, link=link)
        if "base" in moves:
            manifest = replace(manifest, base=replace(manifest.base, sha256=hash_files(moves["base"])))
        edit.replace_bank(root, None, edit.Change(manifest, found, moves))
        clear_work(root, "build")
    copied = sum(one.copied for one in imported.values())
    notes = [*read_alike(summariser.reads), *(note for source in kept for note in imported[source.id].notes)]
    if unused:
        notes.append(f"without an adapter, so not used: {', '.join(unused)}")
    if found_base.record.model == str(found_base.directory):
        notes.append(f"the bank names its base by the path {found_base.directory}; --copy-base would carry it along")
    return Built(root, len(kept), manifest.left_out, copied, encoded, tuple(notes))


def _said(sources: list[Source]) -> list[str]:
    """Return what the adapters call their base."""
    found = (peft_format.read_config(source.adapter, [])[0] for source in sources)
    return [settings.base_model for settings in found if settings is not None]


def _finished(root: Path, sources: list[Source]) -> Built | None:
    """Return the bank of a run that was killed when it was done except for its work folder; None if there is none."""
    if not has_work(root, "build") or not (root / MANIFEST).exists():
        return None
    with locked(root, name="build.lock"):
        if not has_work(root, "build"):
            return None  # it was not killed, only at work
        manifest = read_manifest(root)
        known = [record.id for record in manifest.adapters]
        if sorted([*known, *(entry["id"] for entry in manifest.left_out)]) != sorted(source.id for source in sources):
            return None
        clear_work(root, "build")
    return Built(root, len(known), manifest.left_out, notes=("it was finished by an earlier run",))


def _refuse_foreign(root: Path, base: BankBase) -> None:
    """A bank must not be made around the files of others."""
    if (root / MANIFEST).exists():
        raise UsageError(f"{root} is a bank already; add to it with: lorameta bank add {root} ADAPTER")
    own = base.directory.relative_to(root).parts[:1] if base.directory and base.directory.is_relative_to(root) else ()
    refuse_foreign(root, "build", own)


def _recover(root: Path, work: Path) -> None:
    """Put back what a run that was killed at its very end had moved into place already."""
    for relative in sorted(retired(root)):
        here, there = root / relative, work / relative
        if link_in(root, *relative.split("/")) or link_in(work, *relative.split("/")):
            continue
        if here.is_dir() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            here.rename(there)


def _summarise(
    work: Path, sources: list[Source], summariser: Summariser, bad: dict[str, list[str]], counting: Counting
) -> tuple[Summaries, int]:
    problems: list[str] = []
    datasets = [(source.id, source.dataset) for source in sources if source.dataset is not None]
    with counting("summarising", len(datasets), "datasets") as progress:
        found, reused = summariser.encode_all(datasets, work / "summaries", problems, progress)
    for problem in problems:
        name, _, reason = problem.partition(": ")
        bad.setdefault(name, []).append(reason)
    if not found:
        raise BankError(violations(problems, "no dataset could be summarised:"))
    return join(*found), len(found) - reused


def _stop_or_skip(bad: Mapping[str, list[str]], skip: bool, root: Path, what: str) -> None:
    if bad and not skip:
        heading = f"{len(bad)} of the {what} are refused, so no bank was written to {root}:"
        remedy = "Mend them and run the same command again, or leave them out with --skip-bad."
        raise BankError(violations(_lines(bad), heading, remedy))


def _lines(bad: Mapping[str, list[str]]) -> list[str]:
    return [f"{name}: {note}" for name in sorted(bad) for note in bad[name]]


def _manifest(
    root: Path,
    name: str | None,
    base: BankBase,
    summaries: Summaries,
    kept: list[Source],
    imported: Mapping[str, ImportedAdapter],
    bad: Mapping[str, list[str]],
    summariser: Summariser,
    own: bool,
) -> Manifest:
    records = []
    for source in kept:
        record = AdapterRecord(source.id, **{"family": "", **source.facts})
        rows = {"train": int(summaries.rows[summaries.ids.index(source.id)])}
        records.append(replace(record, rows=rows, path=f"adapters/{source.id}", **imported[source.id].facts))
    tokens = summaries.tokenizer_hash or (summariser.tokens.tokenizer_hash if base.tokenizer else None)
    record_of_base = replace(base.record, tokenizer_hash=tokens)
    if base.directory is not None and base.directory.is_relative_to(root):
        record_of_base = replace(record_of_base, sha256=hash_files(base.directory))
    left_out = tuple({"id": id, "reason": "; ".join(bad[id])} for id in sorted(bad))
    encoders = summariser.encoders() if own else {}
    return Manifest(name or root.name, record_of_base, {}, tuple(records), encoders, left_out)
