"""A bank as a stranger may hand it over, and a directory of the user's that it must not touch."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OLD = time.time() - 100_000
needs_links = pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs symbolic links")


@pytest.fixture
def bank(tiny_bank: Path, tmp_path: Path) -> Path:
    """A copy of the miniature bank, to be tampered with."""
    return Path(shutil.copytree(tiny_bank, tmp_path / "bank"))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory with files of the user's, all of them old."""
    folder = tmp_path / "victim"
    for name in ("Documents/thesis.txt", "opposite/photo.jpg", "private_key"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the content of {name}")
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (OLD, OLD))
    return folder


@pytest.fixture
def untouched(victim: Path) -> Callable[[], bool]:
    """Whether the user's directory is what it was: names, contents, sizes."""

    def look() -> dict[str, bytes | None]:
        return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(victim.rglob("*"))}

    before = look()
    return lambda: look() == before


def tamper(bank: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of ``bank.json``."""
    content = json.loads((bank / "bank.json").read_bytes())
    change(content)
    (bank / "bank.json").write_text(json.dumps(content))


def tamper_config(bank: Path, adapter: str, **changes: Any) -> None:
    """Change an adapter's configuration, and its hash in ``bank.json``."""
    from hashlib import sha256

    path = bank / "adapters" / adapter / "adapter_config.json"
    data = json.dumps({**json.loads(path.read_bytes()), **changes}).encode()
    path.write_bytes(data)

    def change(content: dict[str, Any]) -> None:
        for record in content["adapters"]:
            if record["id"] == adapter:
                record["config_sha256"] = sha256(data).hexdigest()

    tamper(bank, change)
