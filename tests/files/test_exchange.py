"""Directories replaced in one step where the system can; put back by the next run where it cannot."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from lorameta.adapter import Adapter
from lorameta.errors import LorametaError
from lorameta.files import atomic
from lorameta.files.atomic import fresh_directory, write_directory
from lorameta.files.exchange import exchange
from tests.bank.faults import needs_fork, survives

FILES = {"a": b"old", "b": b"old"}
needs_exchange = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2")


@pytest.fixture
def place(tmp_path) -> Path:
    return write_directory(tmp_path / "out", FILES)


@needs_exchange
def test_two_directories_change_places(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "one", tmp_path / "other")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["other"]
    assert not exchange(tmp_path / "one", tmp_path / "nothing")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["other"]


@needs_exchange
def test_a_reader_never_finds_nothing(place):
    """Thousands of looks while the directory is replaced: each file is always there, and whole."""
    done, missing, looks = threading.Event(), [], 0

    def write() -> None:
        for i in range(60):
            write_directory(place, {"a": str(i).encode(), "b": str(i).encode()})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        looks += 1
        for name in FILES:
            try:
                assert (place / name).read_bytes()
            except FileNotFoundError:
                missing.append(looks)
    writer.join()
    assert looks > 100
    assert not missing
    assert [path.name for path in place.parent.iterdir()] == ["out"]


@needs_fork
@pytest.mark.parametrize("able", [True, False])
def test_a_kill_at_any_moment_leaves_old_or_new(place, monkeypatch, able):
    if not able:
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    new = {"a": b"new", "b": b"new"}
    for n in range(60):
        if survives(n, lambda: write_directory(place, new), place.parent):
            break
        atomic.restore(place)
        found = {path.name: path.read_bytes() for path in place.iterdir()}
        assert found in (FILES, new)
    else:
        raise AssertionError("it never came to its end")
    assert n > 5
    long_ago = time.time() - 2 * atomic.STALE_AFTER
    for path in place.parent.iterdir():
        os.utime(path, (long_ago, long_ago))
    write_directory(place, FILES)
    assert [path.name for path in place.parent.iterdir()] == ["out"]  # the next run removes it all


def test_what_stepped_aside_is_put_back_by_a_reader(tiny_bank, tmp_path):
    place = tmp_path / "adapter"
    shutil.copytree(tiny_bank / "adapters" / "opposite", tmp_path / ".adapter.0123abcd.0.old")
    (tmp_path / ".adapter.old").mkdir()  # not ours
    assert Adapter.from_pretrained(place).rank == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [".adapter.old", "adapter"]


def test_a_failure_says_what_to_do(place, monkeypatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(LorametaError, match=r"make room on the disk\. What was there is unchanged"):
        write_directory(place, FILES)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == FILES


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that bind")
def test_a_folder_without_permission(place):
    place.parent.chmod(0o500)
    try:
        with pytest.raises(LorametaError, match="choose another place"):
            write_directory(place.parent / "x", FILES)
    finally:
        place.parent.chmod(0o700)


def test_a_name_that_is_too_long(tmp_path):
    with (
        pytest.raises(LorametaError, match="choose a shorter name"),
        fresh_directory(tmp_path / ("x" * 300), {"a"}) as fresh,
    ):
        (fresh / "a").write_bytes(b"")
