"""From an empty cache to an adapter, with every byte accounted for; without a socket; and killed on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lorameta.bank import AdapterBank
from tests.conftest import TASKS
from tests.hub import repos
from tests.hub.conftest import environment
from tests.hub.transport import TOKEN

#: Run first in a process that must not even try to reach anybody.
NO_SOCKET = """
import socket
class Refused(socket.socket):
    def __new__(cls, *args, **options):
        raise AssertionError("a socket was opened")
socket.socket = socket.SocketType = Refused
socket.create_connection = socket.getaddrinfo = Refused
"""


@pytest.fixture
def published(lorameta, author) -> str:
    """The id of a bank that somebody else made and pushed."""
    author.fill()
    assert lorameta("bank", "build", "theirs", "--hub-author", author.name, "--base", author.base).code == 0
    assert lorameta("bank", "push", "theirs", f"{author.name}/bank", HF_TOKEN=TOKEN).code == 0
    author.forget()
    return f"{author.name}/bank"


def whole(author) -> list[tuple[str, str]]:
    """Every file that was sent to its end, as often as it was."""
    return sorted((hit.repo, hit.file) for hit in author.hits if hit.status == 200 and hit.file and hit.sent)


def test_the_walk_from_an_empty_cache(fresh, author, published, rows, tmp_path):
    first = fresh("generate", rows, "-o", "out", "--bank", published)
    assert first.code == 2
    assert f"lorameta bank pull {published}" in first.err
    assert not author.hits

    assert fresh("bank", "pull", published).code == 0
    made = fresh("generate", rows, "-o", "out", "--bank", published, "--top-k", "2", "--json")
    assert made.code == 0, made.err
    chosen = [name for name, weight in made.json["weights"].items() if weight]
    expected = {}
    bank = author.repo("models", "bank")
    for name, data in bank.commits[bank.head].items():
        if name == "bank.json" or name.startswith(("summaries", "tokenizer/")):
            expected[bank.name, name] = len(data)
    for name in chosen:
        repo = author.repo("models", name)
        expected |= {(repo.name, file): len(repo.commits[repo.head][file]) for file in (repos.CONFIG, repos.WEIGHTS)}
    assert author.sent() == expected  # index, chosen adapters, and nothing else
    assert len(whole(author)) == len(expected)  # each once
    others = [hit for hit in author.hits if not hit.file and hit.status == 200 and hit.method == "GET"]
    assert [hit.path for hit in others] == [f"/api/models/{published}?blobs=true"]

    author.forget()
    for verb, out in (("generate", ["-o", "again"]), ("explain", [])):
        done = fresh(verb, rows, *out, "--bank", published, "--top-k", "2", "--offline", "--json", before=NO_SOCKET)
        assert done.code == 0, done.err
    assert (tmp_path / "again" / repos.WEIGHTS).read_bytes() == (tmp_path / "out" / repos.WEIGHTS).read_bytes()
    lacking = fresh("generate", rows, "-o", "more", "--bank", published, "--offline", before=NO_SOCKET)
    assert lacking.code == 1
    assert "2 adapters of the bank" in lacking.err
    for words in (("bank", "pull", published), ("bank", "build", "--preset", "lots-of-loras")):
        refused = fresh(*words, "--offline", before=NO_SOCKET)
        assert refused.code == 1
        assert "this run is offline" in refused.err
    assert not author.hits


@pytest.mark.slow
def test_the_walk_goes_on_to_the_places_of_adapters(fresh, author, published, rows, tmp_path):
    """What is exported and evaluated needs of the base what it says, and nothing at all the second time."""
    assert fresh("bank", "pull", published).code == 0
    assert fresh("generate", rows, "-o", "out", "--bank", published, "--top-k", "2").code == 0
    author.forget()
    done = fresh("export", "out", "-o", "out.gguf", "--format", "gguf")
    assert done.code == 0, done.err
    assert set(author.sent()) == {(author.base, "config.json")}
    author.forget()
    done = fresh("evaluate", rows, "--adapter", "out", "--bank", published, "--json")
    assert done.code == 0, done.err
    assert {repo for repo, _ in author.sent()} == {author.base}
    author.forget()
    again = fresh("evaluate", rows, "--adapter", "out", "--bank", published, "--offline", "--json", before=NO_SOCKET)
    assert again.code == 0, again.err
    merged = fresh("export", "out", "-o", "merged", "--format", "merged", "--offline", before=NO_SOCKET)
    assert merged.code == 0, merged.err
    assert not author.hits
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_a_socket_is_noticed(fresh, author, published):
    """That the test above can fail."""
    done = fresh("bank", "pull", published, before=NO_SOCKET)
    assert done.code == 1
    assert "a socket was opened" in done.err


def start(hub, home: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lorameta", *map(str, words)]
    return subprocess.Popen(command, env=environment(hub, home), cwd=home, text=True, stderr=subprocess.PIPE)


def kill_at(
    hub,
    author,
    home: Path,
    request: int,
    *words: object,
    at: str = r"/{}(/|$|\?)",
    once: Callable[[], bool] = lambda: True,
) -> bool:
    """Run a command and kill it (SIGKILL) when it makes its n-th request of this author; whether it came to that.

    Of the requests, those that `at` fits are counted, with the author's name in it. The request is not answered, and if
    `once` is given the command goes on beside it until that is true: another of its threads may have work to end.
    """
    process: list[subprocess.Popen[str]] = []

    def kill() -> None:
        until = time.monotonic() + 60
        while not once() and time.monotonic() < until:
            time.sleep(0.02)
        process[0].send_signal(signal.SIGKILL)
        process[0].wait()

    fault = hub.fail(at.format(author.name), before=kill, after=request, times=1, status=500)
    process.append(start(hub, home, *words))
    code = process[0].wait()
    hub.settle()
    hub.faults.remove(fault)
    assert code in (0, -signal.SIGKILL), process[0].stderr.read()
    return code != 0


def content(bank: Path) -> dict[str, bytes]:
    """What a bank is, bar its hidden folder and what a killed writer left for the next ones to remove."""
    paths = [path.relative_to(bank) for path in bank.rglob("*") if path.is_file()]
    return {path.as_posix(): (bank / path).read_bytes() for path in paths if not path.as_posix().startswith(".")}


@pytest.mark.parametrize("request_number", [2, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 4, 9))])
def test_a_pull_that_was_killed_goes_on(lorameta, fresh, hub, author, published, tmp_path, request_number):
    assert lorameta("bank", "pull", published, "-o", "whole").code == 0
    author.forget()
    assert kill_at(hub, author, tmp_path, request_number, "bank", "pull", published, "-o", "killed")
    assert not (tmp_path / "killed" / "bank.json").exists()
    assert lorameta("bank", "pull", published, "-o", "killed").code == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    sent = whole(author)
    assert len(sent) == len(set(sent)) == 4  # bank.json, summaries, and two files of the tokenizer


def build_words(author, out: str) -> tuple[str, ...]:
    base = ("--hub-author", author.name, "--base", author.base, "--name", "bank", "--jobs", "1")
    return ("bank", "build", out, *base)


@pytest.mark.parametrize("request_number", [44, *(pytest.param(n, marks=pytest.mark.slow) for n in (13, 60))])
def test_a_build_that_was_killed_goes_on(lorameta, hub, author, tmp_path, request_number):
    author.fill()
    assert killed_and_resumed(lorameta, hub, author, tmp_path, request_number)


@pytest.mark.slow
def test_a_build_can_be_killed_at_any_request(lorameta, hub, author, tmp_path):
    author.fill("opposite", "animal_sound")
    assert all(killed_and_resumed(lorameta, hub, author, tmp_path, request) for request in range(0, 31, 3))


def killed_and_resumed(lorameta, hub, author, home: Path, request: int) -> bool:
    out = f"killed{request}"
    assert lorameta(*build_words(author, f"whole{request}")).code == 0
    author.forget()
    was_killed = kill_at(hub, author, home, request, *build_words(author, out))
    assert (home / out / "bank.json").exists() != was_killed
    # The second run has the caches of the first.
    process = start(hub, home, *build_words(author, out))
    assert process.wait() == 0, process.stderr.read()
    assert content(home / out) == content(home / f"whole{request}")
    sent = whole(author)
    assert len(sent) == len(set(sent))
    return was_killed


@pytest.mark.slow
def test_a_pull_can_be_killed_at_any_change_of_the_disk(lorameta, fresh, hub, author, published, rows, tmp_path):
    """At the n-th call that creates, renames or removes something in the bank's directory, for every third n."""
    assert lorameta("bank", "pull", published, "-o", "whole").code == 0
    for n in range(0, 1000, 3):
        home = tmp_path / str(n)
        home.mkdir()
        before = (
            "from pathlib import Path\nfrom tests.bank import faults\n"
            f"faults.count_changes({n}, Path({str(home / 'bank')!r}))\n"
        )
        done = fresh("bank", "pull", published, "-o", home / "bank", before=before)
        assert done.code in (0, 77), done.err
        again = lorameta("bank", "pull", published, "-o", home / "bank")
        assert again.code == 0, f"{n}: {again.err}"
        assert content(home / "bank") == content(tmp_path / "whole"), n
        if done.code == 0:
            break
    assert n > 20


def test_two_processes_fetch_an_adapter_once(fresh, hub, author, published, rows, tmp_path):
    assert fresh("bank", "pull", published).code == 0
    author.forget()
    hub.fail(rf"GET /cdn/models/{author.name}/", delay=1.0)
    words = ("generate", rows, "--bank", published, "--top-k", "1", "-o")
    running = [start(hub, tmp_path, *words, f"out{i}") for i in range(2)]
    assert [process.wait() for process in running] == [0, 0], [process.stderr.read() for process in running]
    assert len(whole(author)) == 2  # its configuration and its weights
    assert (tmp_path / "out0" / repos.WEIGHTS).read_bytes() == (tmp_path / "out1" / repos.WEIGHTS).read_bytes()


def test_a_fetch_that_was_killed_leaves_nothing_half(fresh, hub, author, published, rows, tmp_path):
    assert fresh("bank", "pull", published).code == 0
    path = tmp_path / "lorameta" / "banks" / published.replace("/", "--")
    words = ("generate", rows, "--bank", published, "--top-k", "2", "-o", "out")
    author.forget()
    # At the second request for weights, when the adapter whose weights were asked for first is in its place.
    placed = lambda: any(path.glob(f"adapters/*/{repos.WEIGHTS}"))  # noqa: E731
    assert kill_at(hub, author, tmp_path, 1, *words, at="GET /cdn/models/{}/", once=placed)
    bank = AdapterBank.open(path)
    (name,) = set(bank.ids) - set(bank.away)
    assert bank[name].rank == 4  # read whole, and verified
    here = {(f"{author.name}/{one.parent.name}", one.name) for one in path.glob("adapters/*/*")}
    assert len(here) == 3  # and of the other adapter the configuration
    author.forget()
    assert fresh(*words).code == 0
    assert len(AdapterBank.open(path).away) == len(TASKS) - 2
    (sent,) = whole(author)
    assert sent not in here
    assert {(f"{author.name}/{one.parent.name}", one.name) for one in path.glob("adapters/*/*")} == here | {sent}
    assert json.loads((path / "bank.json").read_bytes())["format"] == 2
    assert {one.suffix for one in (path / ".lorameta" / "fetch").iterdir()} == {".lock"}
