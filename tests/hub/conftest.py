"""A Hub on loopback, filled from the miniature bank, and the command line in processes that know only its address.

`lorameta` is one process for all tests, since importing `datasets` takes seconds; `fresh` is a new one for each call.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TASKS, Result, task_rows
from tests.hub import repos
from tests.hub.server import Hub
from tests.hub.stored import Repo
from tests.hub.transport import Hit

ROOT = Path(__file__).resolve().parent.parent.parent
_numbers = itertools.count(1)


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """Of a process that sees no other Hub than this one, and keeps everything in `home`."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "LORAMETA_", "TRANSFORMERS_"))
    }
    return {
        **kept,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "LORAMETA_CACHE": str(home / "lorameta"),
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "*",
    }


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    with Hub() as found:
        yield found


class Author:
    """An author of the Hub whose repositories are those of the miniature bank; each test has one of its own."""

    def __init__(self, hub: Hub, bank: Path) -> None:
        self.hub, self.bank, self.name = hub, bank, f"author{next(_numbers)}"
        self.base = repos.add_base(hub, self.name, bank)
        self._from = len(hub.hits)

    def fill(self, *tasks: str) -> Author:
        for task in tasks or TASKS:
            self.adapter(task)
            self.dataset(task)
        return self

    def adapter(self, task: str, **changes: Any) -> Repo:
        return self.repo("models", repos.add_adapter(self.hub, self.name, task, self.bank, **changes))

    def dataset(self, task: str, rows: list[dict[str, Any]] | None = None, **options: Any) -> Repo:
        rows = repos.lol_rows(task_rows(task)) if rows is None else rows
        return self.repo("datasets", repos.add_dataset(self.hub, self.name, task, rows, **options))

    def repo(self, kind: str, name: str) -> Repo:
        return self.hub.repos[kind, name if "/" in name else f"{self.name}/{name}"]

    @property
    def hits(self) -> list[Hit]:
        """The requests since the last call of `forget`, that were not for other authors."""
        return self.hub.hits[self._from :]

    def forget(self) -> None:
        self._from = len(self.hub.hits)

    def sent(self) -> dict[tuple[str, str], int]:
        """Bytes of each file that was sent."""
        found: dict[tuple[str, str], int] = {}
        for hit in self.hits:
            if hit.file:
                found[hit.repo, hit.file] = found.get((hit.repo, hit.file), 0) + hit.sent
        return {key: count for key, count in found.items() if count}


@pytest.fixture
def author(hub: Hub, tiny_bank: Path) -> Iterator[Author]:
    yield Author(hub, tiny_bank)
    hub.faults.clear()
    hub.renamed.clear()


@pytest.fixture(scope="session")
def _worker(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, str(Path(__file__).with_name("worker.py"))]
    with subprocess.Popen(
        command, env=environment(hub, home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def lorameta(_worker: subprocess.Popen[str], tmp_path: Path) -> Callable[..., Result]:
    """Call the command line in the other process; keyword arguments are environment variables."""

    def run(*words: object, **env: str | None) -> Result:
        env = {"LORAMETA_CACHE": str(tmp_path / "cache"), "HF_TOKEN": None, "HF_HUB_OFFLINE": None, **env}
        assert _worker.stdin is not None and _worker.stdout is not None  # noqa: PT018
        asked = {"words": [str(word) for word in words], "env": env, "cwd": str(tmp_path)}
        print(json.dumps(asked), file=_worker.stdin, flush=True)
        return Result(*json.loads(_worker.stdout.readline()))

    return run


@pytest.fixture
def fresh(hub: Hub, tmp_path: Path) -> Callable[..., Result]:
    """Call the command line in a new process with caches of its own; `before` is code that it runs first."""

    def run(*words: object, before: str = "", **env: str) -> Result:
        code = f"import sys\n{before}\nsys.argv[0] = 'lorameta'\nfrom lorameta.cli import main\nmain()"
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            env={**environment(hub, tmp_path), **env}, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def rows(tiny_rows: Path) -> Path:
    return tiny_rows
