"""Several writers of one bank: they wait, start over or give up, and no change is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lorameta.bank import AdapterBank, lock
from lorameta.bank.edit import update
from lorameta.errors import LorametaError, LorametaWarning
from tests.bank.editing import make_newcomer, summary_for


@pytest.fixture
def root(tiny_bank, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bank, tmp_path / "bank")).resolve()


def test_without_locks_the_slower_writer_starts_over(root, monkeypatch):
    """Two writers on a file system whose locks do nothing: both changes are in the bank."""
    from filelock import FileLock

    monkeypatch.setattr(FileLock, "acquire", lambda *_, **__: (_ for _ in ()).throw(NotImplementedError))
    calls = []

    def slow(manifest):
        calls.append(manifest.name)
        if len(calls) == 1:  # the other one is quicker
            update(root, lambda other: replace(other, name="quick"))
        return replace(manifest, name=manifest.name + "+slow")

    assert update(root, slow).name == "quick+slow"
    assert calls == ["tiny-bank", "quick"]


def test_a_writer_whom_others_always_outrun_gives_up(root, monkeypatch):
    def busy(manifest):
        path = root / "bank.json"
        path.write_bytes(path.read_bytes() + b" ")
        return replace(manifest, name="never")

    with pytest.raises(LorametaError, match="other processes changed"):
        update(root, busy)
    assert AdapterBank.open(root).name == "tiny-bank"


def test_a_waiting_writer_says_so_and_gives_up_in_time(root, monkeypatch):
    monkeypatch.setattr(lock, "SAY_AFTER", 0.05)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom lorameta.bank.lock import locked\n"
        f"with locked(Path({str(root)!r})):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as holder:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.warns(LorametaWarning, match="another process writes to the bank"),
            pytest.raises(LorametaError, match="try again when it is done"),
            lock.locked(root, timeout=0.2),
        ):
            pass
        holder.kill()  # a killed holder frees it
    with lock.locked(root, timeout=5) as held:
        assert held


def test_two_processes_that_add_at_once_both_succeed(root, tmp_path):
    names = ["one", "two", "three"]
    for seed, name in enumerate(names):
        make_newcomer(tmp_path, name, seed)
        summary_for(root, name).save(tmp_path / f"{name}.safetensors")
    command = [sys.executable, "-m", "lorameta", "bank", "add", root]
    runs = [
        subprocess.Popen(
            [*command, tmp_path / name, "--summary", tmp_path / f"{name}.safetensors", "--json"], stdout=-1
        )
        for name in names
    ]
    assert [json.loads(run.communicate()[0])["id"] for run in runs] == names
    assert [run.returncode for run in runs] == [0, 0, 0]
    bank = AdapterBank.open(root)
    assert set(names) < set(bank.ids)
    assert len(bank) == 7
    assert bank.check().problems == []
    assert bank.summaries.ids == bank.ids
