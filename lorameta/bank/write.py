"""`write_bank`: a bank from its parts, whose adapters lie in its directory already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorameta.adapter import peft_format
from lorameta.bank import edit
from lorameta.bank.manifest import MANIFEST, base_problem, disagreements, facts_of, inside, read_manifest
from lorameta.bank.names import unsafe_ids, unsafe_path
from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest
from lorameta.bank.scan import scan_directory
from lorameta.errors import BankError
from lorameta.files.atomic import sha256_file
from lorameta.files.links import user_path

if TYPE_CHECKING:
    from lorameta.encoder.summary import Summaries


def write_bank(
    directory: str | PathLike[str],
    *,
    name: str,
    base: BaseRecord,
    summaries: Summaries,
    records: Iterable[AdapterRecord],
    left_out: Iterable[Mapping[str, str]] = (),
    recipe: Mapping[str, Any] | None = None,
    encoders: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Make a bank of a directory that holds the adapters (and the base, if it is not on the Hub).

    Every adapter is read and checked. Ranks, scalings, targets, sizes and hashes are filled in from the files. The
    same parts give the same bytes. A bank that is there already is replaced as :func:`lorameta.bank.edit.update` does
    it; to change a few adapters of it, use that.

    Parameters
    ----------
    directory : path
        With a PEFT directory for each record, ``adapters/<id>`` unless the record has another ``path``.
    name : str
        The bank's name.
    base : BaseRecord
        Its ``sha256`` is filled in if ``model`` is a directory inside the bank.
    summaries : Summaries
        One for each record, in any order.
    records : iterable of AdapterRecord
        What is known of each adapter; order does not matter.
    left_out : iterable of mappings with ``id`` and ``reason``
        Adapters that were made and are not in the bank.
    recipe : mapping, optional
        How the bank was made; free, JSON-able.
    encoders : mapping, optional
        More about the encoders than the summaries say, e.g. ``{"sentence": {"sha256": ...}}``.

    Returns
    -------
    Path
        Of ``bank.json``.

    Raises
    ------
    BankError
        With everything that is wrong; nothing is written then.
    """
    root = user_path(directory)
    problems: list[str] = []
    records = sorted(records, key=lambda record: record.id)
    problems += unsafe_ids([record.id for record in records])
    if not Path(base.model).is_absolute() and root.joinpath(base.model).is_dir():
        problems += [f"base: {problem}" for problem in unsafe_path(base.model)]
        base = replace(base, sha256=hash_files(root / base.model))
        if not base.sha256:
            problems.append(f"base: the directory {base.model} is empty")
    elif base.name is not None and not Path(base.model).is_absolute():
        problems.append(
            f"base: there is no directory {base.model} in the bank, and a base on the Hub has no other name"
        )
    if base.tokenizer_hash is None:
        base = replace(base, tokenizer_hash=summaries.tokenizer_hash)
    elif summaries.tokenizer_hash not in (None, base.tokenizer_hash):
        problems.append("the summaries were made with another tokenizer than that of the base; make them again")
    if missing := sorted({record.id for record in records} - set(summaries.ids)):
        problems.append(f"the summaries lack {', '.join(missing)}")
    if extra := sorted(set(summaries.ids) - {record.id for record in records}):
        problems.append(f"the summaries have {', '.join(extra)}, of which there is no record")
    old = read_manifest(root) if (root / MANIFEST).is_file() else None
    stacked = {record.id: record for record in old.adapters if record.shard} if old else {}
    filled = []
    for record in [] if problems else records:
        kept = record.shard and record == stacked.get(record.id)  # its weights are in a shard, which never changes
        filled.append(record if kept else fill(root, base, record, problems))
    BankError.raise_if(problems, f"no bank was written to {root}:")
    manifest = Manifest(
        name,
        base,
        {},
        tuple(filled),
        {key: dict(value) for key, value in (encoders or {}).items()},
        tuple(dict(entry) for entry in left_out),
        dict(recipe or {}),
        {record.shard: old.shards[record.shard] for record in filled if record.shard and old},
    )
    edit.write(root.resolve(), lambda _: edit.Change(manifest, summaries))
    return root / MANIFEST


def fill(
    root: Path, base: BaseRecord, record: AdapterRecord, problems: list[str], staged: Path | None = None
) -> AdapterRecord:
    """Return the record with what its files say; what contradicts them is a problem.

    The files are in `staged`, our own work folder, until they are moved to their path in the bank.
    """
    record = replace(record, path=record.path or f"adapters/{record.id}")
    try:
        directory = staged or inside(root, record.path)
    except BankError as error:
        problems.append(f"{record.id}: {error}")
        return record
    notes: list[str] = []
    scan = scan_directory(directory, notes)
    settings = scan.settings if scan else peft_format.read_config(directory, [])[0]
    if settings is not None and (problem := base_problem(root, directory, base, settings)):
        notes.append(problem)
    if notes or scan is None:
        problems += [f"{record.id}: {note}" for note in notes]
        return record
    facts = facts_of(scan, scan.settings)
    given = {key: value for key, value in facts.items() if getattr(record, key) not in (None, "", (), 0)}
    problems += [f"{record.id}: {problem}" for problem in disagreements(record, given)]
    return replace(record, **facts)


def hash_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a base model's directory, by its path in it; hidden files are no part of
    it."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(directory).as_posix(): sha256_file(path) for path in files}
