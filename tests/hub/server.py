"""A Hub on loopback: what `huggingface_hub` and `datasets` ask of the real one, answered from memory, with a log.

It speaks HTTP to a client that runs unchanged in another process (`HF_ENDPOINT`). Large files (`.safetensors`,
`.parquet`) are "LFS": they have a SHA-256 and are fetched from another origin, to which the token must not go.
Every way in which the real one fails is an entry in `Hub.faults`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS = (".safetensors", ".parquet", ".bin")
TOKEN = "hf_good"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """A repository with its history; `card` is the front matter of its README."""

    kind: str  # "models" or "datasets"
    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = ""
    gated: bool = False
    private: bool = False
    card: dict[str, Any] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], *, drop: tuple[str, ...] = (), forget: bool = False) -> str:
        """Add or replace files; `forget` rewrites the history."""
        tree = {path: data for path, data in self.commits.get(self.head, {}).items() if path not in drop}
        tree |= files
        text = self.head + json.dumps({path: git_oid(data) for path, data in sorted(tree.items())})
        head = hashlib.sha1(text.encode()).hexdigest()
        self.commits = {head: tree} if forget else {**self.commits, head: tree}
        self.head = head
        return head

    def tree(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.head if revision in ("main", "") else revision
        return (commit, self.commits[commit]) if commit in self.commits else None

    @property
    def tags(self) -> list[str]:
        tags = [f"dataset:{one}" for one in self.card.get("datasets", [])]
        tags += [f"license:{self.card['license']}"] if "license" in self.card else []
        return [*tags, *(["peft"] if "adapter_config.json" in self.commits[self.head] else [])]

    def info(self, *, blobs: bool, commit: str = "") -> dict[str, Any]:
        files = self.commits[commit or self.head]
        return {
            "_id": "0" * 24,
            "id": self.name,
            "modelId": self.name,
            "sha": commit or self.head,
            "private": self.private,
            "gated": "auto" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": self.tags,
            "cardData": self.card,
            "siblings": [{"rfilename": path, **(entry(path, data) if blobs else {})} for path, data in files.items()],
        }


def entry(path: str, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"size": len(data), "blobId": git_oid(data)}
    if path.endswith(LFS):
        found["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
    return found


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


class Hub:
    """The repositories, the faults and the log of a server; a context manager."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.renamed: dict[str, str] = {}
        self.collections: dict[str, list[tuple[str, str]]] = {}
        self.faults: list[Fault] = []
        self.hits: list[Hit] = []
        self.uploads: dict[str, bytes] = {}
        self.page = 1000
        self.active = 0
        self.lock = threading.Lock()

    def __enter__(self) -> Hub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, kind: str, name: str, files: Mapping[str, bytes], card: Mapping[str, Any] | None = None) -> Repo:
        repo = Repo(kind, name, card=dict(card or {}))
        lines = [f"{key}: {json.dumps(value)}" for key, value in repo.card.items()]
        readme = {"README.md": "\n".join(["---", *lines, "---", "", f"# {name}", ""]).encode()} if card else {}
        repo.commit({**readme, **files})
        self.repos[kind, name] = repo
        return repo

    def fail(self, pattern: str, **fault: Any) -> Fault:
        self.faults.append(Fault(pattern, **fault))
        return self.faults[-1]

    def settle(self) -> None:
        """Wait until no request is being answered: those of a process that was killed come to their end too."""
        until = time.monotonic() + 10
        while self.active and time.monotonic() < until:
            time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
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
        for pattern, handle in _ROUTES:
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

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        repo = self._find(kind, name)
        if repo is not None and (found := self._tree(repo, revision or "main")) is not None:
            self._json(repo.info(blobs="blobs" in self.query, commit=found[0]))

    def listing(self, kind: str) -> None:
        names = sorted(name for k, name in self.hub.repos if k == kind)
        names = [name for name in names if name.startswith(f"{self.query.get('author', '')}/")]
        start = int(self.query.get("cursor", 0))
        headers = {}
        if start + self.hub.page < len(names):
            link = f"{self.hub.endpoint}/api/{kind}?author={self.query['author']}&full=True"
            headers["Link"] = f'<{link}&cursor={start + self.hub.page}>; rel="next"'
        shown = names[start : start + self.hub.page]
        self._json([self.hub.repos[kind, name].info(blobs=False) for name in shown], headers)

    def collection(self, slug: str) -> None:
        if slug not in self.hub.collections:
            self._error(404, "", "Collection not found")
            return
        items = [
            {"_id": f"{i:024}", "id": name, "type": kind, "position": i}
            for i, (kind, name) in enumerate(self.hub.collections[slug])
        ]
        owner = {"_id": "0" * 24, "name": slug.split("/")[0], "fullname": "", "type": "user", "avatarUrl": ""}
        self._json({"slug": slug, "title": slug, "owner": owner, "items": items, "lastUpdated": "2026-01-01T00:00:00Z",
                    "position": 0, "private": False, "theme": "blue", "upvotes": 0})  # fmt: skip

    def tree(self, kind: str, name: str, revision: str, folder: str | None = None) -> None:
        repo = self._find(kind, name)
        if repo is None or (found := self._tree(repo, revision)) is None:
            return
        inside, deep = f"{folder}/" if folder else "", self.query.get("recursive", "").lower() == "true"
        entries: dict[str, dict[str, Any]] = {}
        for path, data in found[1].items():
            if not path.startswith(inside):
                continue
            first, *rest = path[len(inside) :].split("/")
            for depth in range(1, len(rest) + 1 if deep else min(len(rest), 1) + 1):
                above = inside + "/".join([first, *rest][:depth])
                entries[above] = {"type": "directory", "path": above, "size": 0, "oid": sha256(above.encode())[:40]}
            if deep or not rest:
                entries[path] = _file(path, data)
        if folder and not entries:
            self._error(404, "EntryNotFound", f"{folder} does not exist")
            return
        self._json(list(entries.values()))

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        repo = self._find(kind, name)
        if repo is None or (found := self._tree(repo, revision)) is None:
            return
        if (self.headers.get("Content-Type") or "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        entries = [_file(path, found[1][path]) for path in paths if path in found[1]]
        for path in paths:
            if path not in found[1] and any(one.startswith(f"{path}/") for one in found[1]):
                entries.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        self._json(entries)

    def resolve(self, name: str, revision: str, file: str, kind: str | None = None) -> None:
        kind = kind or "models"
        repo = self._find(kind, name)
        if repo is None:
            return
        if repo.gated and not self.authorised:
            self._error(401, "GatedRepo", f"Access to {kind[:-1]} {name} is restricted. You must be authenticated.")
            return
        if (found := self._tree(repo, revision)) is None:
            return
        commit, files = found
        if file not in files:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        data, headers = files[file], {"X-Repo-Commit": commit}
        if file.endswith(LFS):
            digest = sha256(data)
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "ETag": f'"{git_oid(data)}"'}
            headers["Location"] = f"http://localhost:{self.hub.port}/cdn/{kind}/{quote(name)}/{commit}/{quote(file)}"
            self._send(302, b"", headers)
        else:
            headers |= {"ETag": f'"{git_oid(data)}"'}
            headers["Location"] = f"/api/resolve-cache/{kind}/{quote(name)}/{commit}/{quote(file)}"
            self._send(307, b"", headers)

    def content(self, kind: str, name: str, commit: str, file: str, cdn: bool = False) -> None:
        data = self.hub.repos[kind, name].commits[commit][file]
        self.repo, self.file = name, file
        etag = sha256(data) if cdn else git_oid(data)
        self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

    def create(self) -> None:
        if not self.authorised:
            self._error(401, "", "Invalid username or password.")
            return
        wanted = json.loads(self.body)
        name, kind = f"{wanted['organization']}/{wanted['name']}", f"{wanted.get('type') or 'model'}s"
        if (kind, name) in self.hub.repos:
            known = {"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{name}"}
            self._send(409, json.dumps(known).encode(), {"Content-Type": "application/json"})
            return
        repo = self.hub.add(kind, name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        repo.private = wanted.get("visibility") == "private"
        self._json({"url": f"{self.hub.endpoint}/{name}", "name": name})

    def preupload(self, kind: str, name: str, revision: str) -> None:
        if (repo := self._find(kind, name)) is None:
            return
        known, files = repo.commits[repo.head], []
        for one in json.loads(self.body)["files"]:
            lfs, old = one["path"].endswith(LFS), known.get(one["path"])
            oid = None if old is None else sha256(old) if lfs else git_oid(old)
            mode = "lfs" if lfs else "regular"
            files.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": files})

    def batch(self, name: str, kind: str | None = None) -> None:
        objects = []
        for one in json.loads(self.body)["objects"]:
            known = one["oid"] in self.hub.uploads
            actions = {"actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}", "header": {}}}}
            objects.append({**one, **({} if known else actions)})
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        assert sha256(self.body) == oid
        self.hub.uploads[oid] = self.body
        self._send(200)

    def commit(self, kind: str, name: str, revision: str) -> None:
        if (repo := self._find(kind, name)) is None:
            return
        files, drop = {}, []
        for line in self.body.decode().splitlines():
            step = json.loads(line)
            value = step["value"]
            if step["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif step["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
            elif step["key"] == "deletedFile":
                drop.append(value["path"])
        head = repo.commit(files, drop=tuple(drop))
        self._json({"success": True, "commitOid": head, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{head}"})

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        if not text.startswith("---\n"):
            self._json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]})
            return
        self._json({"errors": [], "warnings": []})


def _file(path: str, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if path.endswith(LFS):
        found["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
    return found


_KIND, _NAME = r"(?P<kind>models|datasets)", r"(?P<name>[^/]+/[^/]+)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (rf"/api/{_KIND}", _Handler.listing),
    (rf"/api/{_KIND}/{_NAME}", _Handler.info),
    (rf"/api/{_KIND}/{_NAME}/revision/(?P<revision>[^/]+)", _Handler.info),
    (rf"/api/{_KIND}/{_NAME}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", _Handler.tree),
    (rf"/api/{_KIND}/{_NAME}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    (rf"/api/{_KIND}/{_NAME}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    (rf"/api/{_KIND}/{_NAME}/commit/(?P<revision>[^/]+)", _Handler.commit),
    (r"/api/collections/(?P<slug>.+)", _Handler.collection),
    (r"/api/repos/create", _Handler.create),
    (r"/api/validate-yaml", _Handler.validate),
    (rf"/(?:(?P<kind>datasets)/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Handler.resolve),
    (rf"/api/resolve-cache/{_KIND}/{_NAME}/(?P<commit>[^/]+)/(?P<file>.+)", _Handler.content),
    (rf"/cdn/{_KIND}/{_NAME}/(?P<commit>[^/]+)/(?P<file>.+)", lambda self, **names: self.content(**names, cdn=True)),
    (rf"/(?:(?P<kind>datasets)/)?{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.upload),
]
