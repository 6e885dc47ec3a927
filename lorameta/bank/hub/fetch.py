"""The weights of adapters that are on the Hub, fetched when they are first needed, verified, and kept in the bank.

The hash that they must have is in ``bank.json``: it is the one that the Hub gave when the index was made. A file is
downloaded into a hidden folder of the bank and moved into place when it is whole and right, so that what is there can
be trusted, whoever was killed meanwhile.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from lorameta.adapter.peft_format import CONFIG, WEIGHTS
from lorameta.bank.counting import Counting, silent
from lorameta.bank.hub.client import Client, Trouble, offline
from lorameta.bank.lock import clear_work, locked, work_folder
from lorameta.bank.manifest import inside
from lorameta.bank.records import AdapterRecord
from lorameta.errors import LorametaError, LorametaWarning, violations
from lorameta.files.atomic import sha256_file
from lorameta.files.links import is_file, make_folder, reason

#: Adapters that are fetched at once.
JOBS = 4
#: Bytes from which on it is said how many there are.
MUCH = 2_000_000_000


#: Opens a progress bar for what is fetched on demand; the command line puts its own in this place.
counting: Counting = silent


def is_away(root: Path, record: AdapterRecord) -> bool:
    """Check whether an adapter's files are on the Hub only."""
    if not record.hub or record.shard:
        return False
    directory = root / record.path
    return not (is_file(directory / WEIGHTS) and is_file(directory / CONFIG))


def fetch(root: Path, records: Iterable[AdapterRecord], *, jobs: int = JOBS) -> int:
    """Get the files of those adapters that are not here yet.

    Parameters
    ----------
    root : Path
        The bank's directory.
    records : iterable of AdapterRecord
    jobs : int
        Adapters at once.

    Returns
    -------
    int
        Bytes of the weights that were fetched.

    Raises
    ------
    LorametaError
        Some could not be had: all of them, with the reasons; the others are here now. Offline, nothing is tried.
    """
    wanted = list(records)
    away = [record for record in wanted if is_away(root, record)]
    if not away:
        return 0
    for record in wanted:  # who was killed right after the last move left an empty folder
        if record.hub and record not in away:
            clear_work(root, "fetch", record.id)
    total = sum(record.bytes for record in away)
    if offline():
        heading = (
            f"{len(away)} adapters of the bank {root} are not on this machine ({total / 1e6:.0f} MB), and this run"
        )
        names = [f"{record.id}: {record.hub['repo']}" for record in away]
        remedy = "Run the same command once without --offline (HF_HUB_OFFLINE)."
        raise LorametaError(violations(names, f"{heading} is offline:", remedy))
    if total > MUCH:
        size = f"{len(away)} adapters, {total / 1e9:.1f} GB"
        warnings.warn(f"fetching {size}, from the Hub into {root}", LorametaWarning, stacklevel=2)
    client = Client("fetching adapters")
    problems: list[str] = []
    with (
        counting("fetching adapters", total, "B") as progress,
        ThreadPoolExecutor(max(1, min(jobs, len(away)))) as pool,
    ):

        def one(record: AdapterRecord) -> None:
            try:
                _fetch(client, root, record)
                progress(record.bytes)
            except (Trouble, LorametaError) as error:
                problems.append(f"{record.id}: {error}")

        try:
            list(pool.map(one, away))
        except BaseException:
            client.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    LorametaError.raise_if(sorted(problems), f"{len(problems)} adapters could not be fetched from the Hub:")
    return total


def _fetch(client: Client, root: Path, record: AdapterRecord) -> None:
    folder = work_folder(root, "fetch", record.id)
    with locked(root, name=f"fetch/{record.id}.lock"):
        if not is_away(root, record):
            return  # another process was quicker
        place = inside(root, record.path)
        beside = PurePosixPath(record.hub["file"]).with_name(CONFIG).as_posix()
        wanted = {CONFIG: (beside, record.config_sha256), WEIGHTS: (record.hub["file"], record.sha256)}
        for name, (file, digest) in wanted.items():
            if (place / name).is_file() and sha256_file(place / name) == digest:
                continue
            found = _verified(client, record, file, digest, folder)
            try:
                make_folder(place)
                found.replace(place / name)
            except OSError as error:
                raise LorametaError(f"cannot write {place / name}: {reason(error)}") from error
    clear_work(root, "fetch", record.id)


def _verified(client: Client, record: AdapterRecord, file: str, digest: str, folder: Path) -> Path:
    """Return a file with the hash that it must have; a damaged transfer is repeated once."""
    repo, revision = record.hub["repo"], record.hub["revision"]
    for again in (False, True):
        try:
            path = client.download(repo, file, folder, revision=revision, force=again)
        except Trouble as trouble:
            if trouble.kind != "revision":
                raise
            # The history was rewritten; the newest commit may hold the same file.
            path = client.download(repo, file, folder, revision="main", force=again)
        found = sha256_file(path)
        if found == digest:
            return path
        with contextlib.suppress(OSError):
            path.unlink()
    raise LorametaError(
        f"{repo}/{file}: what the Hub sent has the SHA-256 {found[:12]}…, it should be {digest[:12]}…; "
        "nothing of it is kept. Try again, or make the bank again if the repository was changed"
    )
