"""The Hub, asked politely: every request of lorameta goes through `Client.ask`, which waits and tries again.

What cannot be had is a `Trouble`: one that stays (there is no such repository, it is gated) or one that may pass (the
Hub is busy, the connection is cut). Nothing here opens a socket where ``HF_HUB_OFFLINE`` is set.
"""

from __future__ import annotations

import email.utils
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lorameta.errors import LorametaError, first_line, requires
from lorameta.files.links import reason

#: How often a request is made, and seconds to wait at most before one: longer than any window of the Hub's limits.
TRIES, LONGEST_WAIT = 6, 330.0
#: Seconds without an answer after which a question is asked again.
TIMEOUT = 30.0
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LIMIT = re.compile(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
Result = TypeVar("Result")


class Trouble(LorametaError):
    """Something that the Hub did not give.

    Attributes
    ----------
    kind : str
        "missing", "gated", "revision", "file", "refused", "busy" or "connection".
    """

    def __init__(self, message: str, kind: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.wait = kind, wait

    @property
    def passing(self) -> bool:
        """Whether it may be gone the next time."""
        return self.kind in ("busy", "connection")


def offline() -> bool:
    """Check whether no socket may be opened: ``HF_HUB_OFFLINE``, which ``--offline`` sets."""
    constants = sys.modules.get("huggingface_hub.constants")
    wanted = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return wanted or bool(getattr(constants, "HF_HUB_OFFLINE", False))


def refuse_offline(what: str) -> None:
    """LorametaError where no socket may be opened, saying what cannot be done."""
    if offline():
        raise LorametaError(f"{what}, and this run is offline (--offline, HF_HUB_OFFLINE); do it once with a network")


class Client:
    """Talks to the Hub for several threads at once; who is told to wait makes all of them wait.

    Parameters
    ----------
    what : str
        What cannot be done offline, or without the extra, e.g. "pulling a bank".
    """

    def __init__(self, what: str) -> None:
        refuse_offline(f"{what} needs the Hub")
        with requires("huggingface_hub", "hub", what):
            import huggingface_hub
            from huggingface_hub.utils import disable_progress_bars
            from huggingface_hub.utils import logging as hub_logging
        from lorameta import __version__

        disable_progress_bars()
        hub_logging.set_verbosity_error()  # it tells of every retry; we tell what came of them
        self.api: Any = huggingface_hub.HfApi(library_name="lorameta", library_version=__version__)
        self._lock, self._not_before = threading.Lock(), 0.0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let no thread wait any longer: the work was given up."""
        self._stopped.set()

    def model(self, repo: str, revision: str | None = None, *, files: bool = True) -> Any:
        """Return what the Hub says of a model repository, with sizes and hashes of its files."""
        ask = self.api.model_info
        return self.ask(repo, lambda: ask(repo, revision=revision, files_metadata=files, timeout=TIMEOUT))

    def dataset(self, repo: str) -> Any:
        """Return what the Hub says of a dataset."""
        return self.ask(repo, lambda: self.api.dataset_info(repo, timeout=TIMEOUT))

    def ask(self, what: str, call: Callable[[], Result], *, tries: int = TRIES) -> Result:
        """Return what `call` returns; it is called again, later and later, while the trouble may pass.

        Parameters
        ----------
        what : str
            For messages: the repository.
        call : callable
        tries : int

        Raises
        ------
        Trouble
            It did not succeed.
        LorametaError
            What was sent could not be stored here.
        """
        for done in range(1, tries + 1):
            self._wait(what, self._not_before - time.monotonic())
            try:
                return call()
            except Exception as error:
                trouble = error if isinstance(error, Trouble) else classify(what, error)
                if trouble is None and isinstance(error, OSError):  # of this machine: a full disk, no permission
                    place = f" ({os.fsdecode(error.filename)})" if error.filename else ""
                    raise LorametaError(f"{what} could not be stored{place}: {reason(error)}") from error
                if trouble is None:
                    raise
                asked = trouble.wait or 0.0
                if not trouble.passing or done == tries or asked > LONGEST_WAIT:
                    raise trouble from error
                # Twice as long each time; by chance longer or shorter, so that threads do not come back all at once.
                pause = max(asked, min(2.0 ** (done - 1), 60.0)) * random.uniform(1.0, 1.25)
                if trouble.kind == "busy":
                    with self._lock:
                        self._not_before = max(self._not_before, time.monotonic() + pause)
                else:
                    self._wait(what, pause)
        raise AssertionError("unreachable")

    def _wait(self, what: str, seconds: float) -> None:
        if self._stopped.wait(max(0.0, seconds)):
            raise Trouble(f"{what}: not asked, since the work was given up", "connection")

    def download(self, repo: str, file: str, folder: Path, *, revision: str | None = None, force: bool = False) -> Path:
        """Return a file of a model repository, whole, as ``folder/file``; not again if it is there from this commit."""

        def call() -> Path:
            download = self.api.hf_hub_download
            return Path(download(repo, file, revision=revision, local_dir=folder, force_download=force))

        return self.ask(f"{repo}/{file}", call)


def classify(what: str, error: Exception) -> Trouble | None:
    """Return what an exception of `huggingface_hub`, `datasets` or their HTTP client means; None if it is none of
    theirs."""
    from huggingface_hub import errors

    for one in _chain(error):
        if isinstance(one, errors.HfHubHTTPError):
            return _of_status(what, one)
    for one in _chain(error):
        if isinstance(one, errors.HFValidationError):
            return Trouble(f"{what}: is no id of the Hub; those look like author/name", "missing")
        if isinstance(one, errors.FileMetadataError):
            return Trouble(f"{what}: what answers is not the Hub ({first_line(one)})", "refused")
        if isinstance(one, errors.LocalEntryNotFoundError):
            return Trouble(f"{what}: the connection failed, or the Hub is busy", "connection")
        consistency = type(one) is OSError and "onsistency check" in str(one)
        if _is_transport(one) or consistency or isinstance(one, (ConnectionError, TimeoutError)):
            return Trouble(f"{what}: the connection failed ({first_line(one)})", "connection")
    return None


def refused(what: str, *, gated: bool) -> Trouble:
    """Return the trouble with a repository that is gated, or that is private or not there: the Hub does not tell
    which."""
    if gated:
        remedy = "accept its conditions on its page on the Hub, then log in with: hf auth login"
        return Trouble(f"{what}: is gated; {remedy}", "gated")
    return Trouble(f"{what}: is not there, or private; check the name, or log in with: hf auth login", "missing")


def _of_status(what: str, error: Any) -> Trouble:
    from huggingface_hub import errors

    status = error.response.status_code
    url = str(error.response.request.url)
    if isinstance(error, errors.GatedRepoError) or (status == 403 and "gated" in str(error).lower()):
        return refused(what, gated=True)
    if isinstance(error, errors.RevisionNotFoundError):
        return Trouble(f"{what}: the revision is not there any more ({_revision(url)})", "revision")
    if isinstance(error, errors.EntryNotFoundError):
        return Trouble(f"{what}: has no such file", "file")
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return refused(what, gated=False)
    if status in _BUSY:
        wait = asked_pause(error.response.headers)
        asked = "" if wait is None or wait <= LONGEST_WAIT else f" and asks to wait {wait:.0f} s"
        return Trouble(f"{what}: the Hub is busy (HTTP {status}){asked}; try again later", "busy", wait)
    if status == 403:
        return Trouble(f"{what}: access is forbidden; log in with a token that may: hf auth login", "gated")
    return Trouble(f"{what}: the Hub answers with HTTP {status} ({error.server_message or 'no reason'})", "refused")


def asked_pause(headers: Any) -> float | None:
    """Return the seconds that the Hub asks to wait: ``Retry-After``, in seconds or as a date, or what is left of its
    window."""
    if limit := _LIMIT.search(headers.get("ratelimit") or ""):
        return float(limit[1]) + 1
    value = (headers.get("retry-after") or "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, IndexError):
        return None


def _revision(url: str) -> str:
    match = re.search(r"/(?:resolve|revision|tree)/([^/?]+)", url)
    return match[1][:12] if match else url


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and those that it was raised from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _is_transport(error: BaseException) -> bool:
    """Check whether the HTTP client raised it: httpx, what replaces it in newer versions, or the client of Xet
    storage."""
    clients = ("httpx", "httpx2", "httpcore", "httpcore2", "hf_xet")
    return type(error).__name__ == "XetDownloadError" or any(
        kind.__module__.partition(".")[0] in clients for kind in type(error).__mro__
    )
