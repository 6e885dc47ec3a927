"""`bank.json`: reading it, and writing a bank from its parts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorameta import peft_format, tensors
from lorameta.atomic import sha256, sha256_file, write_file
from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest, parse, unsafe_ids, unsafe_path
from lorameta.errors import BankError, violations
from lorameta.peft_config import LoraSettings

if TYPE_CHECKING:
    from lorameta.encoder.summary import Summaries

__all__ = ["AdapterRecord", "BaseRecord", "Manifest", "read_manifest", "write_bank"]

MANIFEST = "bank.json"
SUMMARIES = "summaries.safetensors"


def read_manifest(directory: Path) -> Manifest:
    """Read ``bank.json`` of a bank.

    Raises
    ------
    BankError
        It is missing, damaged or says something that cannot be; all violations.
    """
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise BankError(f"{directory} is not a bank: {path}: {reason}. Give the directory that holds it") from None
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        known = tensors.damage(data) if not data.lstrip().startswith(b"{") else None
        known = known if known and "safetensors" not in known and "truncated" not in known else None
        raise BankError(f"{path} {known or f'is not JSON ({error}); get the bank again'}") from None
    problems: list[str] = []
    manifest = parse(content, problems)
    if manifest is None:
        raise BankError(violations(problems, f"{path} is no valid manifest:", "Get the bank again, or write it anew."))
    return manifest


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

    Every adapter is read and checked. Ranks, scalings, targets, sizes and hashes are filled in from the files; the
    summaries and, last, ``bank.json`` are written, each as a whole. The same parts give the same bytes.

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
    root = Path(directory).expanduser()
    problems: list[str] = []
    records = sorted(records, key=lambda record: record.id)
    problems += unsafe_ids([record.id for record in records])
    if root.joinpath(base.model).is_dir():
        problems += [f"base: {problem}" for problem in unsafe_path(base.model)]
        base = replace(base, sha256=_hash_files(root / base.model))
        if not base.sha256:
            problems.append(f"base: the directory {base.model} is empty")
    elif base.name is not None:
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
    filled = [] if problems else [_fill(root, base, record, problems) for record in records]
    if problems:
        raise BankError(violations(problems, f"no bank was written to {root}:"))

    ordered = summaries.select([record.id for record in filled])
    with tempfile.TemporaryDirectory() as folder:
        data = ordered.save(Path(folder) / SUMMARIES).read_bytes()
    found: dict[str, dict[str, Any]] = {key: dict(value) for key, value in (encoders or {}).items()}
    if ordered.token_counts is not None:
        found["tokens"] = {"tokenizer_hash": ordered.tokenizer_hash, **found.get("tokens", {})}
    if ordered.means is not None:
        found["sentence"] = {"model": ordered.sentence_model, **found.get("sentence", {})}
    manifest = Manifest(
        name,
        base,
        {"file": SUMMARIES, "sha256": sha256(data), "bytes": len(data)},
        tuple(filled),
        found,
        tuple(dict(entry) for entry in left_out),
        dict(recipe or {}),
    )
    try:
        text = json.dumps(manifest.as_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, TypeError) as error:
        raise BankError(f"no bank was written to {root}: the recipe or a record cannot be JSON: {error}") from None
    if parse(json.loads(text), problems) is None:
        raise BankError(violations(problems, f"no bank was written to {root}:"))
    write_file(root / SUMMARIES, data)
    return write_file(root / MANIFEST, text.encode())


def inside(root: Path, relative: str) -> Path:
    """`relative` below `root`, symbolic links resolved; BankError if that leads out of the bank."""
    problems = unsafe_path(relative)
    path = (root / relative).resolve()
    if problems or not path.is_relative_to(root.resolve()):
        raise BankError(problems[0] if problems else f"{relative} is a link that leads out of the bank, to {path}")
    return path


def base_problem(root: Path, directory: Path, base: BaseRecord, settings: LoraSettings) -> str | None:
    """Why an adapter's configuration does not belong to the bank's base; None if it does.

    A base that is a directory is known by ``base.name``, by its path, or by no name at all.
    """
    said, revision = settings.base_model, settings.base_revision
    names = {name for name in (base.model, base.name) if name}
    local = (root / base.model).is_dir()
    if local and (not said or (root / base.model).resolve() in {(p / said).resolve() for p in (root, directory)}):
        return None
    if said.rstrip("/").lower() not in {name.lower() for name in names}:
        return (
            f"{peft_format.CONFIG} says that it was trained on {said or 'no base'!r}, "
            f"the bank is of {' or '.join(sorted(names))}; leave it out"
        )
    if base.revision and revision not in (None, "main", base.revision):
        return f"{peft_format.CONFIG} says that it was trained on revision {revision}, the bank is of {base.revision}"
    return None


def facts_of(found: peft_format.PeftAdapter, settings: LoraSettings) -> dict[str, Any]:
    """The fields of a record that its files decide."""
    return {
        "rank": settings.rank,
        "alpha": settings.alpha,
        "rslora": settings.rslora,
        "targets": tuple(sorted({module.rpartition(".")[2] for module in found.modules})),
        "sha256": found.sha256,
        "config_sha256": found.config_sha256,
        "bytes": found.bytes,
    }


def disagreements(record: AdapterRecord, facts: Mapping[str, Any]) -> list[str]:
    """Where a record says something else than its files; each begins with the name of the field."""
    return [
        f"{key} is {value!r} by the files and {getattr(record, key)!r} by bank.json; get the adapter again"
        for key, value in facts.items()
        if getattr(record, key) != value
    ]


def _fill(root: Path, base: BaseRecord, record: AdapterRecord, problems: list[str]) -> AdapterRecord:
    """The record with what its files say; what contradicts them is a problem."""
    record = replace(record, path=record.path or f"adapters/{record.id}")
    try:
        directory = inside(root, record.path)
    except BankError as error:
        problems.append(f"{record.id}: {error}")
        return record
    notes: list[str] = []
    found = peft_format.read_directory(directory, notes)
    settings = found.settings
    if settings is not None and (problem := base_problem(root, directory, base, settings)):
        notes.append(problem)
    if notes or settings is None:
        problems += [f"{record.id}: {note}" for note in notes]
        return record
    facts = facts_of(found, settings)
    given = {key: value for key, value in facts.items() if getattr(record, key) not in (None, "", (), 0)}
    problems += [f"{record.id}: {problem}" for problem in disagreements(record, given)]
    return replace(record, **facts)


def _hash_files(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(directory).as_posix(): sha256_file(path) for path in files}
