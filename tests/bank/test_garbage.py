"""What nothing names any more is deleted after an hour; what others put there never is."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lorameta.bank import AdapterBank, garbage
from lorameta.bank.edit import update
from lorameta.bank_builder.members import remove
from tests.bank.editing import WEIGHTS, age


@pytest.fixture
def root(tiny_bank, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bank, tmp_path / "bank")).resolve()


def test_removed_files_stay_for_an_hour(root):
    bank = AdapterBank.open(root)
    gone = bank.records["opposite"].path
    remove(bank, ["opposite"])
    update(root, lambda manifest: replace(manifest, name="again"))
    assert (root / gone / WEIGHTS).is_file()
    assert (root / "summaries.safetensors").is_file()
    assert len(bank["opposite"].modules) == 6  # opened before
    assert bank.summaries.ids == bank.ids
    assert AdapterBank.open(root).check().warnings == []
    age(root, 3590)
    update(root, lambda manifest: replace(manifest, name="almost"))
    assert (root / gone / WEIGHTS).is_file()
    age(root, 20)
    update(root, lambda manifest: replace(manifest, name="tidied"))
    assert not (root / gone).exists()
    assert not (root / "summaries.safetensors").exists()
    assert json.loads((root / ".lorameta" / "retired.json").read_text()) == {}
    assert AdapterBank.open(root).check().ok


def test_files_of_others_are_never_removed(root):
    stray = shutil.copytree(root / "adapters" / "opposite", root / "adapters" / "mine")
    (root / "notes.txt").write_text("mine")
    (root / "shards").mkdir()
    (root / "shards" / "mine.safetensors").write_text("mine")
    (root / ".lorameta").mkdir()
    (root / ".lorameta" / "retired.json").write_text('{"../outside": 0, "base": 0, "adapters": 0, "bank.json": 0}')
    (root.parent / "outside").write_text("mine")
    for name in "ab":
        update(root, lambda manifest: replace(manifest, name=name))  # noqa: B023
        age(root, 9999)
    for path in (stray, root / "notes.txt", root / "shards" / "mine.safetensors", root.parent / "outside"):
        assert path.exists(), path
    bank = AdapterBank.open(root)
    assert bank.check().problems == []
    assert len(bank) == 4


def test_rubbish_of_a_killed_writer_is_removed(root):
    rubbish = [root / "summaries-0123456789abcdef.safetensors", root / "shards" / "0123456789abcdef.safetensors"]
    for path in rubbish:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    staged = root / ".lorameta" / "staging" / "dead" / "file"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"half")
    update(root, lambda manifest: replace(manifest, name="one"))
    assert all(path.exists() for path in (*rubbish, staged))  # perhaps somebody is just at it
    age(root, 4000)
    update(root, lambda manifest: replace(manifest, name="two"))
    assert not any(path.exists() for path in (*rubbish, staged))


def test_journal_of_another_kind_is_no_reason_to_fail(root):
    (root / ".lorameta").mkdir()
    for text in ("", "[]", '{"a": "b"}', "{"):
        (root / ".lorameta" / "retired.json").write_text(text)
        assert garbage.retired(root) == set()
        update(root, lambda manifest: replace(manifest, name="fine"))


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(root):
    """At once, as the lock shows that nobody else writes; where files are written without it, after an hour."""
    (root / ".lorameta").mkdir()
    (root / "operators").mkdir()
    left = [".bank.json.0123abcd.tmp", ".summaries-0123456789abcdef.safetensors.0123abcd.tmp",
            ".summaries.safetensors.0123abcd.tmp", ".lorameta/.retired.json.0123abcd.tmp"]  # fmt: skip
    others = [".mine.json.0123abcd.tmp", ".bank.json.tmp", "operators/.neural-js.safetensors.0123abcd.tmp", "x.tmp"]
    for name in (*left, *others):
        (root / name).write_text("x")
    update(root, lambda manifest: replace(manifest, name="later"))
    assert [name for name in (*left, *others) if (root / name).exists()] == others
    os.utime(root / others[2], (time.time() - 4000,) * 2)
    update(root, lambda manifest: replace(manifest, name="much later"))
    assert [name for name in others if (root / name).exists()] == [others[0], others[1], others[3]]
