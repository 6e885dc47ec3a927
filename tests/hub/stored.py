"""The repositories that the Hub of the tests holds in memory, with their history, and how it describes their files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LFS = (".safetensors", ".parquet", ".bin")


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


def describe(path: str, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if path.endswith(LFS):
        found["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
    return found
