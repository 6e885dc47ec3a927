"""Publishing on the Hub: the index of a bank, with the adapters that are nowhere else, or a single adapter."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.adapter import Adapter, metadata, peft_format
from lorameta.adapter.card import card, renamed_base
from lorameta.bank.bank import AdapterBank
from lorameta.bank.hub.client import Client
from lorameta.bank.hub.contents import FILES, FOLDERS, is_extra
from lorameta.bank.locate import require_hub_id
from lorameta.bank.manifest import MANIFEST
from lorameta.bank.records import Manifest
from lorameta.bank_builder import copying
from lorameta.errors import BankError, UsageError, violations
from lorameta.files import json_text
from lorameta.files.links import file_of, opened, reason, user_path

#: Files up to this size are read when they are looked at; larger ones are read when they are sent.
IN_MEMORY = 1 << 24


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Attributes
    ----------
    repo : str
        Its id.
    url : str
        Of its page.
    revision : str
        The commit.
    files, bytes : int
        Of the repository now; what was there already was not sent again.
    """

    repo: str
    url: str
    revision: str
    files: int
    bytes: int


def push_bank(bank: AdapterBank, repo: str, *, private: bool | None = None, client: Client | None = None) -> Pushed:
    """Publish a bank, so that others need not read its datasets.

    Index, summaries, tokenizer, what was fitted to the bank, and its base if it carries one. Adapters that are on the
    Hub stay where they are; those that the bank made itself are published along with it.

    Parameters
    ----------
    bank : AdapterBank
        A whole bank, not a view.
    repo : str
        ``author/name``; made if it is not there.
    private : bool, optional
        Of a new repository.
    client : Client, optional

    Raises
    ------
    BankError
        It cannot be published: its base is a directory of this machine, or its own adapters are in shards.
    Trouble
        The Hub does not take it.
    """
    repo = require_hub_id(repo)
    manifest = _published(bank)
    files: dict[str, Path | bytes] = {}
    text = json.dumps(manifest.as_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    files[MANIFEST] = text.encode()
    files[peft_format.CARD] = _card(manifest, repo).encode()
    names = [manifest.summaries["file"], *(f"{manifest.base.model}/{file}" for file in manifest.base.sha256), *FILES]
    for folder in FOLDERS:
        found = (path.relative_to(bank.path).as_posix() for path in sorted((bank.path / folder).glob("*")))
        names += filter(is_extra, found)
    for record in manifest.adapters:
        if not record.hub:
            names += [f"{record.path}/{file}" for file in copying.FILES]
    files |= {name: _content(bank.path, name) for name in names if os.path.lexists(bank.path / name)}
    return _push(client or Client("pushing a bank"), repo, files, private, f"Bank {manifest.name}", own=_is_own)


def push_adapter(
    directory: str | PathLike[str],
    repo: str,
    *,
    base: str | None = None,
    private: bool | None = None,
    client: Client | None = None,
) -> Pushed:
    """Publish a PEFT directory with its card.

    Parameters
    ----------
    directory : path
    repo : str
        ``author/name``; made if it is not there.
    base : str, optional
        Hub id of the base model, for an adapter whose base is a directory of this machine: written into what is
        published.
    private : bool, optional
        Of a new repository.
    client : Client, optional

    Raises
    ------
    BankError
        It is no adapter that others could load; everything that is wrong.
    UsageError
        An option cannot work.
    Trouble
        The Hub does not take it.
    """
    repo, root = require_hub_id(repo), user_path(directory).resolve()
    if base is not None:
        base = require_hub_id(base, "a base model")
    if not root.is_dir():
        raise UsageError(f"there is no directory {root}; give that of an adapter")
    problems: list[str] = []
    found = peft_format.read_directory(root, problems)
    if problems or found.settings is None:
        raise BankError(violations(problems, f"{root} was not pushed:"))
    said = found.settings.base_model
    names = (peft_format.CONFIG, peft_format.WEIGHTS, peft_format.CARD, metadata.FILE)
    files: dict[str, Path | bytes] = {
        name: _content(home.parent, home.name)
        for name in names
        if os.path.lexists(root / name)
        for home in [file_of(root, name)]
    }
    if peft_format.CARD not in files:
        files[peft_format.CARD] = card(Adapter.from_pretrained(root)).encode()
    if base is None and (not said or Path(said).is_absolute() or (root / said).is_dir()):
        raise UsageError(
            f"{peft_format.CONFIG} names the base {said!r}, a directory that others do not have; say what it is "
            "called on the Hub, with --base author/name"
        )
    if base is not None and base != said:
        content = json_text.decode(_text(files[peft_format.CONFIG]))
        content["base_model_name_or_path"] = base
        files[peft_format.CONFIG] = (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
        files[peft_format.CARD] = renamed_base(_text(files[peft_format.CARD]), said, base).encode()
    return _push(client or Client("pushing an adapter"), repo, files, private, "Adapter made with lorameta")


def _content(root: Path, name: str) -> Path | bytes:
    """Return what is sent of a file: its bytes, read without following a link; of a large one the path, once it is no
    link."""
    try:
        with opened(root, name) as descriptor:
            if os.fstat(descriptor).st_size > IN_MEMORY:
                return root / name
            with os.fdopen(os.dup(descriptor), "rb") as file:
                return file.read()
    except OSError as error:
        raise BankError(f"{root / name} cannot be read: {reason(error)}") from error


def _text(content: Path | bytes) -> str:
    data = content if isinstance(content, bytes) else content.read_bytes()
    return data.decode("utf-8-sig", errors="replace")


def _published(bank: AdapterBank) -> Manifest:
    """Return the manifest as others will read it; BankError if they could not use it."""
    manifest, problems = bank.manifest, []
    if not manifest.base.sha256 and Path(manifest.base.model).is_absolute():
        problems.append(f"its base is {manifest.base.model}, a directory that others do not have; build it again with "
                        "--copy-base, or with the base's id on the Hub")  # fmt: skip
    stacked = [record.id for record in manifest.adapters if record.shard and not record.hub]
    if stacked:
        problems.append(
            f"{len(stacked)} of its own adapters are in shards, which cannot be fetched one by one; undo that first, "
            f"with: lorameta bank stack {bank.path} --undo"
        )
    BankError.raise_if(problems, f"the bank {bank.name} cannot be published:")
    adapters = []
    for record in manifest.adapters:
        if record.shard:
            record = replace(record, shard="", row=None, row_sha256="")
        adapters.append(record)
    recipe = {key: value for key, value in manifest.recipe.items() if key != "pulled"}
    return replace(manifest, adapters=tuple(adapters), shards={}, recipe=recipe)


def _card(manifest: Manifest, repo: str) -> str:
    """README.md of a published bank."""
    base = manifest.base.model if not manifest.base.sha256 else manifest.base.name or "carried along"
    licences = Counter(record.licence for record in manifest.adapters if record.licence)
    front = ["---", "library_name: lorameta", "tags:", "- lorameta", "- lora", "- adapter-bank"]
    if not manifest.base.sha256:
        front += [f"base_model: {json.dumps(base)}"]
    lines = [
        *front, "---", "", f"# A bank of adapters: {manifest.name}", "",
        f"{len(manifest.adapters)} LoRA adapters for {base}, and summaries of the datasets that they were trained on. "
        "[lorameta](https://pypi.org/project/lorameta/) mixes them into an adapter for a new dataset, on a CPU, "
        "without training:", "",
        "```", f"lorameta bank pull {repo}", f"lorameta generate DATA --bank {repo} -o ADAPTER", "```", "",
        "Adapters are fetched from their own repositories when a mix first needs them.", "",
    ]  # fmt: skip
    if licences:
        named = ", ".join(f"{name} ({count})" for name, count in licences.most_common())
        lines += [f"Licences of the rows behind them: {named}.", ""]
    return "\n".join(lines)


def _is_own(name: str) -> bool:
    """Check whether a file of a bank's repository was put there by an earlier push."""
    top = name.partition("/")[0]
    return (
        top in (*FOLDERS, "adapters", "base")
        or name in FILES
        or (top.startswith("summaries") and name.endswith(".safetensors"))
    )


def _push(
    client: Client,
    repo: str,
    files: dict[str, Path | bytes],
    private: bool | None,
    message: str,
    *,
    own: Any = lambda name: False,
) -> Pushed:
    """One commit with all files; those that are the same there already are not sent, those of before are deleted."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    client.ask(repo, lambda: client.api.create_repo(repo, private=private, exist_ok=True))
    there = client.ask(repo, lambda: client.api.list_repo_files(repo))

    def call() -> Any:
        steps: list[Any] = [
            CommitOperationAdd(name, str(data) if isinstance(data, Path) else data) for name, data in files.items()
        ]
        steps += [CommitOperationDelete(name) for name in sorted(there) if own(name) and name not in files]
        return client.api.create_commit(repo, steps, commit_message=message)

    done = client.ask(repo, call)
    size = sum(len(data) if isinstance(data, bytes) else data.stat().st_size for data in files.values())
    return Pushed(repo, f"{client.api.endpoint}/{repo}", done.oid, len(files), size)
