"""What the Hub tells of an adapter without its weights: which bytes they are, and what its configuration says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorameta.adapter import peft_format
from lorameta.adapter.peft_config import LoraSettings
from lorameta.bank.hub.client import Client
from lorameta.bank.hub.presets import Member
from lorameta.bank.manifest import base_problem
from lorameta.bank.records import BaseRecord
from lorameta.bank_builder.hub.collect import dataset_of
from lorameta.files.atomic import sha256_file


@dataclass(frozen=True)
class Looked:
    """What is known of an adapter on the Hub.

    Attributes
    ----------
    facts : dict
        The fields of its record that its files decide, and ``hub``: where they are.
    problems : list of str
        Why it cannot be in the bank.
    dataset : str
        The repository of its rows.
    renamed : str
        What its repository is called by now; "" if it is still the one that was asked for.
    """

    facts: dict[str, Any]
    problems: list[str]
    dataset: str = ""
    renamed: str = ""


def look(client: Client, member: Member, base: BaseRecord, folder: Path) -> Looked:
    """Ask for the files of an adapter's repository, and read its configuration.

    Everything is of one commit, that which was the newest when this began: `revision` in ``hub``.

    Parameters
    ----------
    client : Client
    member : Member
    base : BaseRecord
        Of the bank.
    folder : Path
        For the configuration.

    Raises
    ------
    Trouble
        The Hub does not give it.
    """
    info = client.model(member.adapter)
    renamed = info.id if info.id.lower() != member.adapter.lower() else ""
    files = {file.rfilename: file for file in info.siblings or []}
    problems = _lacking(set(files))
    settings: LoraSettings | None = None
    config_sha256 = ""
    if peft_format.CONFIG in files:
        client.download(info.id, peft_format.CONFIG, folder, revision=info.sha)
        settings, config_sha256 = peft_format.read_config(folder, problems)
        if settings is not None and (problem := base_problem(folder, folder, base, settings)):
            problems.append(problem)
    dataset = member.dataset
    if not dataset:
        dataset, problem = dataset_of(info)
        problems += [problem] if problem else []
    if problems or settings is None:
        return Looked({}, problems, dataset, renamed)
    weights = files[peft_format.WEIGHTS]
    if weights.lfs is not None:
        digest, size = weights.lfs.sha256, weights.lfs.size
    else:  # stored in git, so it is small, and the Hub knows no SHA-256 of it
        path = client.download(info.id, peft_format.WEIGHTS, folder, revision=info.sha)
        digest, size = sha256_file(path), path.stat().st_size
    facts = {
        "rank": settings.rank,
        "alpha": settings.alpha,
        "rslora": settings.rslora,
        "targets": _targets(client, info, settings),
        "sha256": digest,
        "config_sha256": config_sha256,
        "bytes": size,
        "hub": {"repo": info.id, "revision": info.sha, "file": peft_format.WEIGHTS, **_licence(info)},
    }
    return Looked(facts, [], dataset, renamed)


def _lacking(files: set[str]) -> list[str]:
    found = [] if peft_format.CONFIG in files else [f"has no {peft_format.CONFIG}: it is no PEFT adapter"]
    if peft_format.WEIGHTS not in files:
        pickled = sorted(name for name in files if name.endswith((".bin", ".pt", ".pth")))
        kind = f"only {pickled[0]}, a pickle, which is never read" if pickled else f"no {peft_format.WEIGHTS}"
        found.append(f"has {kind}")
    return found


def _targets(client: Client, info: Any, settings: LoraSettings) -> tuple[str, ...]:
    """Last parts of the names of the changed modules; where the configuration has a pattern, from the file's header."""
    if isinstance(settings.target_modules, tuple):
        return tuple(sorted({name.rpartition(".")[2] for name in settings.target_modules}))
    header = client.ask(
        info.id,
        lambda: client.api.parse_safetensors_file_metadata(info.id, peft_format.WEIGHTS, revision=info.sha),
    )
    keys = [peft_format.parse_key(name) for name in header.tensors]
    return tuple(sorted({key[0].rpartition(".")[2] for key in keys if key is not None}))


def licence_of(info: Any) -> str:
    """Return the licence that a repository's card names; "" if it names none."""
    named = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    return "" if named in ([], ["other"], ["unknown"]) else named[0]


def _licence(info: Any) -> dict[str, str]:
    licence = licence_of(info)
    return {"licence": licence} if licence else {}
