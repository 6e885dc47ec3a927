"""Saving an adapter: a crash, a kill, a link or a second writer leaves one whole adapter and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.errors import LorametaError, UsageError
from lorameta.files import atomic
from tests.adapter.adapters import ENVIRONMENT, adapter_of, assert_deltas
from tests.peft_helpers import Q, dense, random_factors


def test_a_foreign_directory_is_left_alone(tmp_path):
    adapter = adapter_of(random_factors(0))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        adapter.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        adapter.save_pretrained(tmp_path / "notes.txt")
    ours = adapter.save_pretrained(tmp_path / "out")
    (ours / "training.log").write_text("mine too")
    with pytest.raises(UsageError, match=r"training\.log"):
        adapter.save_pretrained(ours)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "out"]
    (tmp_path / "empty").mkdir()
    adapter.save_pretrained(tmp_path / "empty")
    adapter.save_pretrained(tmp_path / "new" / "deep" / "out")


def test_a_link_keeps_pointing_at_the_new_adapter(tmp_path):
    old = adapter_of(random_factors(0)).save_pretrained(tmp_path / "real")
    (tmp_path / "link").symlink_to(old)
    written = adapter_of(random_factors(1)).save_pretrained(tmp_path / "link")
    assert written == old
    assert (tmp_path / "link").is_symlink()
    assert_deltas(Adapter.from_pretrained(tmp_path / "link"), dense(random_factors(1)))


@pytest.mark.parametrize("failing", ["first write", "second write", "flush", "rename in", "interrupt"])
def test_a_crash_while_saving_leaves_the_old_adapter(tmp_path, monkeypatch, failing):
    target = adapter_of(random_factors(0)).save_pretrained(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    calls = {"write": 0, "rename": 0}
    write, rename = atomic.write_bytes, Path.rename

    def broken_write(path, data):
        calls["write"] += 1
        if (failing == "first write" and calls["write"] == 1) or (failing == "second write" and calls["write"] == 2):
            path.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        if failing == "interrupt" and calls["write"] == 3:
            raise KeyboardInterrupt
        write(path, data)

    def broken_rename(self, to):
        if failing == "rename in" and self.suffix == ".tmp":
            raise PermissionError(13, "Permission denied")
        return rename(self, to)

    def broken_flush(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(atomic, "write_bytes", broken_write)
    monkeypatch.setattr(Path, "rename", broken_rename)
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)  # as on a system without it
    if failing == "flush":
        monkeypatch.setattr(os, "fsync", broken_flush)
    expected = KeyboardInterrupt if failing == "interrupt" else LorametaError
    with pytest.raises(expected) as caught:
        adapter_of(random_factors(1)).save_pretrained(target)
    if expected is LorametaError:
        assert "What was there is unchanged" in str(caught.value)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_process_leaves_the_old_adapter_and_its_rest_is_swept(tmp_path):
    target = adapter_of(random_factors(0)).save_pretrained(tmp_path / "out")
    script = f"""
import os
from lorameta.files import atomic
from lorameta.adapter import Adapter
atomic.swap = lambda *_: os._exit(9)  # everything is written, nothing is in place
Adapter.from_pretrained({str(target)!r}).save_pretrained({str(target)!r}, card="other")
"""
    run = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, check=False)
    assert run.returncode == 9
    assert "other" not in (target / "README.md").read_text()
    assert_deltas(Adapter.from_pretrained(target), dense(random_factors(0)))
    (rest,) = [path for path in tmp_path.iterdir() if path.name != "out"]
    adapter_of(random_factors(2)).save_pretrained(target)
    assert rest.exists()  # it may belong to a process that is still writing
    old = time.time() - 2 * atomic.STALE_AFTER
    os.utime(rest, (old, old))
    adapter_of(random_factors(2)).save_pretrained(target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_writers_at_once_leave_one_whole_adapter(tmp_path):
    target = tmp_path / "out"
    candidates = [adapter_of(random_factors(seed)) for seed in range(4)]
    failures: list[BaseException] = []

    def write(adapter: Adapter) -> None:
        try:
            for _ in range(10):
                adapter.save_pretrained(target)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(adapter,)) for adapter in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("cannot write" in str(error) for error in failures)
    found = Adapter.from_pretrained(target).modules[Q].delta()
    assert any(np.allclose(found, adapter.modules[Q].delta(), atol=1e-5) for adapter in candidates)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
