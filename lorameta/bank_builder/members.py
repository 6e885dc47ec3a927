"""`add` and `remove`: one adapter more, or some less, in a bank that is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.adapter import peft_format
from lorameta.adapter.lazy import LazyModules
from lorameta.bank import edit
from lorameta.bank.bank import AdapterBank
from lorameta.bank.manifest import base_problem, facts_of
from lorameta.bank.names import require_known, unsafe_ids
from lorameta.bank.records import AdapterRecord, Manifest
from lorameta.bank.scan import Scan, scan_directory
from lorameta.bank.shapes import odd_shapes
from lorameta.bank_builder.copying import copy_adapter
from lorameta.bank_builder.summarise import Summariser
from lorameta.data import ReadOptions, ReadReport
from lorameta.encoder.join import join
from lorameta.encoder.summary import Summaries
from lorameta.errors import BankError, UsageError, violations
from lorameta.files.links import user_path


def add(
    bank: AdapterBank,
    adapter: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    summary: Summaries | str | PathLike[str] | None = None,
    id: str | None = None,
    replacing: bool = False,
    link: bool = False,
    tokenizer: str | None = None,
    reading: ReadOptions | None = None,
    reads: list[ReadReport] | None = None,
    **facts: Any,
) -> AdapterRecord:
    """Copy an adapter into a bank, with the summary of the rows it was trained on.

    The adapters that are there are not read again. Several processes may add to one bank at once.

    Parameters
    ----------
    bank : AdapterBank
        A whole bank, not a view. It goes on showing what it showed; open it again to see the new adapter.
    adapter : path
        A PEFT directory.
    data : path, optional
        The rows: any file that :func:`lorameta.data.load_examples` reads.
    summary : Summaries or path, optional
        Their summary instead: that of `id` if there are several.
    id : str, optional
        By default the directory's name.
    replacing : bool
        Put it in the place of the adapter that has this id. Otherwise that is an error.
    link : bool
        Hard links instead of copies, where the file system can.
    tokenizer : str, optional
        Directory of the base's tokenizer, for a bank that carries none.
    reading : ReadOptions, optional
        How the rows are read.
    reads : list of ReadReport, optional
        Gets what was made of their columns.
    **facts
        Further fields of the record: ``task``, ``family``, ``licence``, ``description``, ``source``, ``training``,
        ``scores``.

    Returns
    -------
    AdapterRecord
        As it is in the bank now.

    Raises
    ------
    BankError
        The adapter is refused; everything that is wrong with it. Or its summary does not fit the others.
    UsageError
        The options cannot work, or the id is taken.
    DataError
        The rows cannot be read.
    """
    directory = user_path(adapter).resolve()
    if not directory.is_dir():
        raise UsageError(f"there is no directory {directory}; give one with an {peft_format.CONFIG}")
    if (data is None) == (summary is None):
        raise UsageError("give the rows that the adapter was trained on (--data), or a summary of them (--summary)")
    name = id or directory.name
    if problems := unsafe_ids([name]):
        raise UsageError(f"{problems[0]}; give another one with --id")
    try:
        _refuse_taken(bank.manifest, name, replacing)
    except UsageError:
        edit.tidy(bank.path)  # the run that added it may have been killed after its last step
        raise
    scan = _accept(bank, directory, name)
    if summary is not None:
        mine = _pick(summary, name)
    else:
        folder = None if tokenizer is None else user_path(tokenizer)
        summariser = Summariser.of(bank, folder, reading)
        mine = summariser.encode(name, user_path(data or ""))
        if reads is not None:
            reads += summariser.reads
    expected = bank.manifest.base.tokenizer_hash
    if expected and mine.tokenizer_hash not in (None, expected):
        raise BankError("the summary was made with another tokenizer than those of the bank; use the base's")
    _joined(bank.summaries, mine)  # what does not fit is said before anything is written

    with edit.staging(bank.path) as folder:
        copy_adapter(directory, folder / "adapter", link=link)
        if (again := scan_directory(folder / "adapter", [])) is None or again.sha256 != scan.sha256:
            raise BankError(f"{directory} changed while it was copied; try again when it is finished")
        fields = {"task": name, "family": "", **{key: value for key, value in facts.items() if value}}
        record = AdapterRecord(name, **fields, rows={"train": int(mine.rows[0])})
        record = replace(record, **facts_of(scan, scan.settings))

        def change(manifest: Manifest) -> edit.Change:
            nonlocal record
            _refuse_taken(manifest, name, replacing)
            record = replace(record, path=edit.free_path(bank.path, manifest, name))
            others = tuple(one for one in manifest.adapters if one.id != name)
            known = AdapterBank(bank.path, manifest).summaries.select([one.id for one in others])
            left_out = tuple(entry for entry in manifest.left_out if entry["id"] != name)
            new = replace(manifest, adapters=(*others, record), left_out=left_out, shards=manifest.shards_of(others))
            return edit.Change(new, _joined(known, mine), {record.path: folder / "adapter"})

        edit.update(bank.path, change)
    return record


def remove(bank: AdapterBank, ids: Sequence[str]) -> tuple[str, ...]:
    """Take adapters out of a bank. Their files stay for an hour, for those who have it open.

    Parameters
    ----------
    bank : AdapterBank
        It goes on showing what it showed.
    ids : sequence of str

    Returns
    -------
    tuple of str
        The files that are kept although nothing names them any more but other adapters are in them: none, or shards.

    Raises
    ------
    UsageError
        An id is unknown, with what is near; or no adapter would be left.
    """
    gone = set(ids)
    partly: tuple[str, ...] = ()

    def change(manifest: Manifest) -> Manifest:
        nonlocal partly
        require_known(bank.name, sorted(gone), [record.id for record in manifest.adapters])
        left = tuple(record for record in manifest.adapters if record.id not in gone)
        if not left:
            raise UsageError(f"the bank {bank.name} would be empty then; delete its directory, {bank.path}, instead")
        shards = manifest.shards_of(left)
        of_gone = {record.shard for record in manifest.adapters if record.id in gone}
        partly = tuple(sorted(of_gone & set(shards)))
        return replace(manifest, adapters=left, shards=shards)

    edit.update(bank.path, change)
    return partly


def _refuse_taken(manifest: Manifest, name: str, replacing: bool) -> None:
    same = [record.id for record in manifest.adapters if record.id.lower() == name.lower()]
    if same and not (replacing and same == [name]):
        raise UsageError(
            f"the bank {manifest.name} has an adapter {same[0]!r} already; choose another id with --id, "
            "or put this one in its place with --replace"
        )
    if replacing and not same:
        raise UsageError(f"the bank {manifest.name} has no adapter {name!r} to replace")


def _accept(bank: AdapterBank, directory: Path, name: str) -> Scan:
    """Read the adapter; BankError with everything for which this bank cannot have it."""
    problems: list[str] = []
    scan = scan_directory(directory, problems)
    settings = scan.settings if scan else peft_format.read_config(directory, [])[0]
    if settings is not None:
        base = bank.manifest.base
        if problem := base_problem(bank.path, directory, base, settings):
            problems.append(problem)
    away = {name, *bank.away}
    if scan is not None and (others := [one for one in bank.ids if one not in away]):
        known = bank.lazy(others[0]).modules
        layouts = {others[0]: known.layout if isinstance(known, LazyModules) else {}, name: scan.modules}
        problems += [problem for who, problem in odd_shapes(layouts) if who == name]
    if scan is None or problems:
        raise BankError(violations(problems, f"{directory} was not added to the bank {bank.name}:"))
    return scan


def _pick(summary: Summaries | str | PathLike[str], name: str) -> Summaries:
    """Return the summary of one dataset out of a file; a file with a single one need not name it so."""
    found = summary if isinstance(summary, Summaries) else Summaries.load(user_path(summary))
    if name in found.ids:
        return found.select([name])
    if len(found) != 1:
        raise BankError(f"the summaries lack {name}; they are of {', '.join(found.ids[:10])}")
    return replace(found, ids=(name,))


def _joined(known: Summaries, mine: Summaries) -> Summaries:
    return join(known.select([one for one in known.ids if one not in mine.ids]), mine)
