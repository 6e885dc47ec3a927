"""HTTP below the routes of the Hub of the tests: faults, ranges, redirects, errors and the log of requests."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub.stored import Repo

if TYPE_CHECKING:
    from tests.hub.server import Hub

TOKEN = "hf_good"


@dataclass(frozen=True)
class Hit:
    """One request, and how many bytes of body it was answered with."""

    method: str
    path: str
    status: int
    sent: int
    repo: str = ""
    file: str = ""
    token: bool = False
    time: float = 0.0


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD path" matches, the first `times` of them."""

    pattern: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    wrong: bool = False
    before: Callable[[], object] | None = None
    times: int = 10**9
    after: int = 0
    delay: float = 0.0
    met: int = 0


class Transport(BaseHTTPRequestHandler):
    """Takes a request, lets a fault meet it, and hands it to the route that it matches."""

    routes: list[tuple[str, Callable[..., None]]]
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        with self.hub.lock:
            self.hub.active += 1
        try:
            self._route()
        finally:
            with self.hub.lock:
                self.hub.active -= 1

    def _route(self) -> None:
        url = urlsplit(self.path)
        self.route, self.query = unquote(url.path), {k: v[0] for k, v in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.repo, self.file, self.fault = "", "", self._fault()
        if self.fault is not None:
            time.sleep(self.fault.delay)
            if self.fault.before is not None:
                self.fault.before()
            if self.fault.status:
                self._send(self.fault.status, b'{"error": "on purpose"}', self.fault.headers)
                return
        for pattern, handle in self.routes:
            if match := re.fullmatch(pattern, self.route):
                handle(self, **match.groupdict())
                return
        self._send(404, b'{"error": "Not Found"}')

    def _fault(self) -> Fault | None:
        with self.hub.lock:
            for fault in self.hub.faults:
                if re.search(fault.pattern, f"{self.command} {self.path}"):
                    fault.met += 1
                    if fault.after < fault.met <= fault.after + fault.times:
                        return fault
        return None

    def _send(self, status: int, data: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer, with as much of the data as was asked for, or as a fault lets through."""
        headers = dict(headers or {})
        size = len(data)
        if status == 200 and (match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")):
            start = int(match[1]) if match[1] else max(size - int(match[2]), 0)
            stop = min(int(match[2]) + 1, size) if match[1] and match[2] else size
            if start >= size:
                status, data, headers["Content-Range"] = 416, b"", f"bytes */{size}"
            else:
                status, data, headers["Content-Range"] = 206, data[start:stop], f"bytes {start}-{stop - 1}/{size}"
        fault = self.fault
        if fault is not None and fault.wrong:
            data = bytes(len(data))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        cut = fault is not None and fault.cut_after is not None and self.command == "GET"
        body = b"" if self.command == "HEAD" else data[: fault.cut_after] if cut and fault is not None else data
        hit = Hit(self.command, self.path, status, len(body), self.repo, self.file,
                  "Authorization" in self.headers, time.time())  # fmt: skip
        with self.hub.lock:
            self.hub.hits.append(hit)
        with contextlib.suppress(OSError):
            self.wfile.write(body)
            self.wfile.flush()
        if cut:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)

    def _json(self, value: object, headers: Mapping[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _find(self, kind: str, name: str) -> Repo | None:
        """The repository, unless it was renamed, is private or is not there; then that is the answer."""
        if name in self.hub.renamed:
            self._send(307, b"", {"Location": self.path.replace(quote(name), quote(self.hub.renamed[name]))})
            return None
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not self.authorised):
            if self.authorised:
                self._error(404, "RepoNotFound", "Repository not found")
            else:
                self._error(401, "RepoNotFound", "Invalid username or password.")
            return None
        self.repo = name
        return repo

    def _tree(self, repo: Repo, revision: str) -> tuple[str, dict[str, bytes]] | None:
        found = repo.tree(revision)
        if found is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found
