"""`bank.json`: reading it, and holding it against the files that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorameta.adapter import peft_format
from lorameta.adapter.base_names import same_base
from lorameta.adapter.peft_config import LoraSettings
from lorameta.bank.names import unsafe_path
from lorameta.bank.parse import parse
from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest
from lorameta.errors import BankError, violations
from lorameta.files import json_text, tensors
from lorameta.files.links import is_directory, reason, resolved, same

if TYPE_CHECKING:
    from lorameta.adapter.peft_format import PeftAdapter
    from lorameta.bank.scan import Scan

MANIFEST = "bank.json"


def read_manifest(directory: Path) -> Manifest:
    """Read ``bank.json`` of a bank.

    Raises
    ------
    BankError
        It is missing, damaged or says something that cannot be; all violations.
    """
    path = directory / MANIFEST
    try:
        data = json_text.read_bytes(path)
    except FileNotFoundError:
        why = "there is no such file. Give the directory that holds it"
        raise BankError(f"{directory} is not a bank: {path}: {why}") from None
    except OSError as error:
        raise BankError(f"{directory} is not a bank: {path} cannot be read: {reason(error)}") from None
    except json_text.JsonError as error:
        raise BankError(f"{directory} is not a bank: {path} {error}") from None
    return parse_manifest(directory, data)


def parse_manifest(directory: Path, data: bytes) -> Manifest:
    """Return the manifest that the bytes of a ``bank.json`` hold; `directory` is what messages name. Errors as
    above."""
    path = directory / MANIFEST
    try:
        content = json_text.decode(data)
    except json_text.JsonError as error:
        known = tensors.damage(data) if not data.lstrip().startswith(b"{") else None
        known = known if known and "safetensors" not in known and "truncated" not in known else None
        raise BankError(f"{path} {known or f'{error}; get the bank again'}") from None
    problems: list[str] = []
    manifest = parse(content, problems)
    if manifest is None:
        raise BankError(violations(problems, f"{path} is no valid manifest:", "Get the bank again, or rewrite it."))
    return manifest


def inside(root: Path, relative: str) -> Path:
    """`relative` below `root`, symbolic links resolved; BankError if that leads out of the bank."""
    if problems := unsafe_path(relative):
        raise BankError(problems[0])
    path = resolved(root / relative)
    if not path.is_relative_to(resolved(root)):
        raise BankError(f"{relative} is a link that leads out of the bank, to {path}")
    return path


def base_problem(root: Path, directory: Path, base: BaseRecord, settings: LoraSettings) -> str | None:
    """Return why an adapter's configuration does not belong to the bank's base; None if it does.

    A base that is a directory is known by ``base.name``, by its path, or by no name at all.
    """
    said, revision = settings.base_model, settings.base_revision
    names = {name for name in (base.model, base.name, *base.also) if name}
    local = is_directory(root / base.model)
    if local and (not said or any(same(root / base.model, place / said) for place in (root, directory))):
        return None
    if not same_base(said, names):
        return (
            f"{peft_format.CONFIG} says that it was trained on {said or 'no base'!r}, "
            f"the bank is of {' or '.join(sorted(names))}; leave it out"
        )
    if base.revision and revision not in (None, "main", base.revision):
        return f"{peft_format.CONFIG} says that it was trained on revision {revision}, the bank is of {base.revision}"
    return None


def facts_of(found: PeftAdapter | Scan, settings: LoraSettings) -> dict[str, Any]:
    """Return the fields of a record that its files decide."""
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
    """Return where a record says something else than its files; each begins with the name of the field."""
    return [
        f"{key} is {value!r} by the files and {getattr(record, key)!r} by bank.json; get the adapter again"
        for key, value in facts.items()
        if getattr(record, key) != value and not (key == "targets" and record.hub)
    ]
