"""A Hub on loopback: what `huggingface_hub` and `datasets` ask of the real one, answered from memory, with a log.

It speaks HTTP to a client that runs unchanged in another process (`HF_ENDPOINT`). Large files (`.safetensors`,
`.parquet`) are "LFS": they have a SHA-256 and are fetched from another origin, to which the token must not go.
Every way in which the real one fails is an entry in `Hub.faults`.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote

from tests.hub.stored import LFS, Repo, describe, git_oid, sha256
from tests.hub.transport import Fault, Hit, Transport


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


class _Handler(Transport):
    """What the Hub answers, by route."""

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
                entries[path] = describe(path, data)
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
        entries = [describe(path, found[1][path]) for path in paths if path in found[1]]
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


_KIND, _NAME = r"(?P<kind>models|datasets)", r"(?P<name>[^/]+/[^/]+)"
_Handler.routes = [
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
