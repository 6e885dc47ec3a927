"""An index that somebody published: pulled, verified and put in place. No dataset is read, no adapter is fetched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from lorameta.adapter.peft_format import WEIGHTS
from lorameta.bank import edit
from lorameta.bank.counting import Counting, silent
from lorameta.bank.garbage import retired
from lorameta.bank.hub.client import Client
from lorameta.bank.hub.contents import FILES, foreign_base, is_extra, is_summaries
from lorameta.bank.locate import cached_bank, require_hub_id
from lorameta.bank.lock import clear_work, locked, refuse_foreign, work_folder
from lorameta.bank.manifest import MANIFEST, parse_manifest, read_manifest
from lorameta.bank.records import Manifest
from lorameta.encoder.summary import Summaries
from lorameta.encoder.tokens import tokenizer_hash
from lorameta.errors import BankError, UsageError
from lorameta.files.atomic import sha256, sha256_file
from lorameta.files.links import remove_folder, user_path


@dataclass(frozen=True)
class Pulled:
    """What :func:`pull` did.

    Attributes
    ----------
    path : Path
        The bank.
    repo, revision : str
        Where it is from.
    adapters : int
        How many are in it.
    bytes : int
        Of the index.
    """

    path: Path
    repo: str
    revision: str
    adapters: int
    bytes: int


def pull(
    repo: str,
    out: str | PathLike[str] | None = None,
    *,
    revision: str | None = None,
    client: Client | None = None,
    counting: Counting = silent,
) -> Pulled:
    """Get the index of a bank from the Hub; a run that was stopped is continued by the next one.

    Parameters
    ----------
    repo : str
        Its id, ``author/name``.
    out : path, optional
        A new or empty directory, or one that the same bank was pulled into: then it is brought up to date. By default
        the place in the cache where ``--bank author/name`` finds it.
    revision : str, optional
        A branch, a tag or a commit; the newest by default.
    client : Client, optional
    counting : callable
        For progress.

    Returns
    -------
    Pulled

    Raises
    ------
    Trouble
        The Hub does not give it.
    BankError
        It is no bank, or not the files that its ``bank.json`` was written with.
    UsageError
        There is something else in `out`.
    """
    repo = require_hub_id(repo, "a bank")
    root = user_path(cached_bank(repo) if out is None else out).resolve()
    before = _before(root, repo)
    client = client or Client("pulling a bank")
    info = client.model(repo, revision)
    files = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
    if MANIFEST not in files:
        raise BankError(f"{repo} is no bank: it has no {MANIFEST}; banks are published with: lorameta bank push")
    with locked(root, name="build.lock"):
        folder = work_folder(root, "pull", str(info.sha))
        data = client.download(info.id, MANIFEST, folder, revision=info.sha).read_bytes()
        manifest = _located(parse_manifest(folder, data), info.id, info.sha, root, before)
        wanted = _wanted(manifest, files)
        with counting("pulling", sum(files.get(name, 0) for name in wanted), "B") as progress:
            for name in wanted:
                client.download(info.id, name, folder, revision=info.sha)
                progress(files.get(name, 0))
        summaries = _verified(folder, manifest)
        moves = _moves(root, folder, manifest, before)
        edit.replace_bank(root, before, edit.Change(manifest, summaries, moves))
        clear_work(root, "pull")
    size = sum(files.get(name, 0) for name in (MANIFEST, *wanted))
    return Pulled(root, info.id, info.sha, len(manifest.adapters), size)


def _before(root: Path, repo: str) -> Manifest | None:
    """Return the bank that is to be brought up to date, if there is one; UsageError where another one, or other files,
    are."""
    if (root / MANIFEST).is_file():
        before = read_manifest(root)
        pulled = before.recipe.get("pulled")
        if not isinstance(pulled, dict) or str(pulled.get("repo")).lower() != repo.lower():
            raise UsageError(f"{root} is a bank already, and not the one of {repo}; give a new directory")
        if own := [record.id for record in before.adapters if not record.hub]:
            added = f"{', '.join(own[:5])}, which would be lost"
            raise UsageError(f"to the bank in {root} was added {added}; give a new directory")
        return before
    refuse_foreign(root, "pull")
    return None


def _located(manifest: Manifest, repo: str, revision: str, root: Path, before: Manifest | None) -> Manifest:
    """Return the manifest for this machine.

    Adapters that the bank brought along itself are in its own repository, at this commit. Those that are here already,
    the same as before, stay where they are; others go where nothing is.
    """
    refused = foreign_base(manifest.base)
    if not is_summaries(manifest.summaries["file"]):
        refused.append(f"its summaries are called {manifest.summaries['file']!r}")
    BankError.raise_if(refused, f"{repo} was not pulled:", "Ask who published the bank.")
    if stacked := [record.id for record in manifest.adapters if record.shard]:
        raise BankError(f"{repo} was pushed with shards ({len(stacked)} adapters), which cannot be fetched one by one")
    known = {record.id: record for record in before.adapters} if before else {}
    here, adapters = {"repo": repo, "revision": revision}, []
    for record in manifest.adapters:
        if not record.hub:
            record = replace(record, hub={**here, "file": f"{record.path}/{WEIGHTS}"})
        old = known.get(record.id)
        if old is not None and (old.sha256, old.config_sha256) == (record.sha256, record.config_sha256):
            places = {"path": old.path, "shard": old.shard, "row": old.row, "row_sha256": old.row_sha256}
            record = replace(record, **places)  # type: ignore[arg-type]
        elif before is not None:
            record = replace(record, path=edit.free_path(root, before, record.id))
        adapters.append(record)
    shards = before.shards_of(adapters) if before else {}
    recipe = {**manifest.recipe, "pulled": here}
    return replace(manifest, adapters=tuple(adapters), shards=shards, recipe=recipe)


def _wanted(manifest: Manifest, files: dict[str, int]) -> list[str]:
    """Return the files of the index, bar ``bank.json``: those of the lists in :mod:`lorameta.bank.hub.contents`
    alone."""
    base = [f"{manifest.base.model}/{file}" for file in manifest.base.sha256]
    wanted = dict.fromkeys([manifest.summaries["file"], *base, *sorted(filter(is_extra, files))])
    return [name for name in wanted if name in files]


def _verified(folder: Path, manifest: Manifest) -> Summaries:
    """Return the summaries, once they and the base are found to be those that ``bank.json`` was written with."""
    path = folder / manifest.summaries["file"]
    if not path.is_file() or sha256(path.read_bytes()) != manifest.summaries["sha256"]:
        raise BankError(f"{path.name} is not the file that {MANIFEST} was written with; ask who published the bank")
    for file, digest in manifest.base.sha256.items():
        place = folder / manifest.base.model / file
        if not place.is_file() or sha256_file(place) != digest:
            raise BankError(f"{manifest.base.model}/{file} is not the file that {MANIFEST} was written with")
    tokenizer, expected = folder / "tokenizer" / "tokenizer.json", manifest.base.tokenizer_hash
    if expected and tokenizer.is_file() and tokenizer_hash(tokenizer) != expected:
        raise BankError("the tokenizer is not the one that the summaries were made with; ask who published the bank")
    return Summaries.load(path)


def _moves(root: Path, folder: Path, manifest: Manifest, before: Manifest | None) -> dict[str, Path]:
    """Return what is to be put in place: base and tokenizer as a whole, other files one by one."""
    moves: dict[str, Path] = {}
    for name in dict.fromkeys(["tokenizer", *([manifest.base.model] if manifest.base.sha256 else [])]):
        if not (folder / name).is_dir():
            continue
        if before is None:
            if name in retired(root):
                remove_folder(root, *name.split("/"))  # of a run that was killed at its very end
        elif before.base != manifest.base:
            raise UsageError("the published bank has another base or tokenizer by now; pull it into a new directory")
        if not (root / name).exists():
            moves[name] = folder / name
    for path in sorted([*folder.glob("operators/*"), *(folder / name for name in FILES)]):
        if path.is_file():
            moves[path.relative_to(folder).as_posix()] = path
    return moves
