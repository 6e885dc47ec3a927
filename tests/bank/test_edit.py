"""Changing a bank: alone, as a whole, and without disturbing those who have it open."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorameta.bank import AdapterBank, edit, garbage, lock
from lorameta.bank.edit import Change, free_path, staging, update
from lorameta.bank_builder.members import add, remove
from lorameta.encoder import Summaries
from lorameta.errors import BankError, LorametaError, LorametaWarning, UsageError
from tests.bank.faults import needs_fork, survives
from tests.peft_helpers import write_peft

WEIGHTS = "adapter_model.safetensors"
SHAPES = {
    f"model.layers.{layer}.self_attn.{name}": (out, 32)
    for layer in range(2)
    for name, out in (("q_proj", 32), ("k_proj", 16), ("v_proj", 16))
}


@pytest.fixture
def root(tiny_bank, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bank, tmp_path / "bank")).resolve()


@pytest.fixture
def newcomer(tmp_path) -> Path:
    """A sound adapter for the bank, with its summary beside it."""
    return make_newcomer(tmp_path, "newcomer", 99)


def make_newcomer(folder: Path, name: str, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    factors = {
        module: (rng.normal(size=(4, d_in)).astype(np.float32), rng.normal(size=(d_out, 4)).astype(np.float32))
        for module, (d_out, d_in) in SHAPES.items()
    }
    return write_peft(folder / name, factors, alpha=8, base_model_name_or_path="base")


def summary_for(root: Path, name: str) -> Summaries:
    """The summary of one of the bank's own tasks, under another name."""
    known = AdapterBank.open(root).summaries
    return replace(known.select([known.ids[0]]), ids=(name,))


def age(root: Path, seconds: float) -> None:
    """Make what waits to be deleted, and what lies in the staging folder, older."""
    path = root / ".lorameta" / "retired.json"
    if path.is_file():
        journal = json.loads(path.read_text())
        path.write_text(json.dumps({name: since - seconds for name, since in journal.items()}))
    for one in (root / ".lorameta" / "staging").rglob("*"):
        os.utime(one, (time.time() - seconds,) * 2)


def content(root: Path) -> dict:
    """What a reader sees: the manifest, and the bytes of what it names."""
    bank = AdapterBank.open(root)
    ids = sorted(bank.ids)
    return {
        "ids": ids,
        "summaries": bank.summaries.select(ids).token_counts.toarray().tolist(),
        "weights": [(root / bank.records[name].path / WEIGHTS).read_bytes() for name in ids],
    }


def test_update_changes_the_manifest_and_nothing_else(root):
    before = content(root)
    written = update(root, lambda manifest: replace(manifest, name="renamed"))
    assert (written.name, AdapterBank.open(root).name) == ("renamed", "renamed")
    assert content(root) == before
    assert AdapterBank.open(root).manifest.summaries["file"] == "summaries.safetensors"
    assert AdapterBank.open(root).check().ok


def test_new_summaries_are_named_after_their_content(root):
    bank = AdapterBank.open(root)
    less = bank.summaries.select(bank.ids[::-1])
    update(root, lambda manifest: Change(manifest, replace(less, rows=less.rows + 1)))
    now = AdapterBank.open(root)
    entry = now.manifest.summaries
    assert entry["file"] == f"summaries-{entry['sha256'][:16]}.safetensors"
    assert now.summaries.ids == now.ids
    np.testing.assert_array_equal(now.summaries.rows, bank.summaries.rows + 1)


def test_what_is_no_bank_is_refused(root, tmp_path):
    with pytest.raises(BankError, match="is not a bank"):
        update(tmp_path, lambda manifest: manifest)
    assert not (tmp_path / ".lorameta").exists()
    before = (root / "bank.json").read_bytes()
    bad = (
        (lambda m: replace(m, name=""), "name"),
        (lambda m: replace(m, adapters=(*m.adapters, m.adapters[0])), "there twice"),
        (lambda m: replace(m, recipe={"loss": float("nan")}), "cannot be JSON"),
        (lambda m: replace(m, adapters=(replace(m.adapters[0], id="other"), *m.adapters[1:])), "no summaries"),
    )
    for change, named in bad:
        with pytest.raises(BankError, match=named):
            update(root, change)
        assert (root / "bank.json").read_bytes() == before


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


def test_a_move_comes_into_its_place_and_a_taken_place_is_refused(root):
    with staging(root) as folder:
        assert folder.is_relative_to(root)
        (folder / "file").write_text("new")
        update(root, lambda manifest: Change(manifest, moves={"shards/new": folder / "file"}))
    assert not folder.exists()
    assert (root / "shards" / "new").read_text() == "new"
    before = (root / "bank.json").read_bytes()
    with staging(root) as folder:
        shutil.copytree(root / "adapters" / "opposite", folder / "one")
        moves = {"adapters/animal_sound": folder / "one"}
        with pytest.raises(LorametaError, match="cannot write"):
            update(root, lambda manifest: Change(replace(manifest, name="x"), moves=moves))
        with pytest.raises(BankError, match="leads out of the bank"):
            update(root, lambda manifest: Change(replace(manifest, name="x"), moves={"../x": folder / "one"}))
    assert (root / "bank.json").read_bytes() == before


def test_free_paths_avoid_what_is_there(root):
    manifest = AdapterBank.open(root).manifest
    assert free_path(root, manifest, "new") == "adapters/new"
    (root / "adapters" / "new").mkdir()
    assert free_path(root, manifest, "new").startswith("adapters/new.")
    assert free_path(root, manifest, "OPPOSITE").startswith("adapters/OPPOSITE.")


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


def test_a_moved_file_is_found_again_when_starting_over(root):
    calls = []
    with staging(root) as folder:
        (folder / "file").write_text("new")

        def change(manifest):
            calls.append(1)
            return Change(replace(manifest, name="new"), moves={f"shards/{len(calls)}": folder / "file"})

        real, outrun = edit.write_file, []

        def late(path, data):
            if Path(path).name == "bank.json" and not outrun:
                raise AssertionError("bank.json must not be written")
            return real(path, data)

        def sync(folder):
            if not outrun:
                outrun.append((root / "bank.json").write_bytes((root / "bank.json").read_bytes() + b"\n"))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(edit, "write_file", late)
            patch.setattr(edit, "sync", sync)
            update(root, change)
    assert len(calls) == 2
    assert not (root / "shards" / "1").exists()
    assert (root / "shards" / "2").read_text() == "new"


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


def test_a_reader_that_opened_before_a_write_goes_on(root, newcomer):
    reader = AdapterBank.open(root)
    add(AdapterBank.open(root), newcomer, summary=summary_for(root, "newcomer"))
    remove(AdapterBank.open(root), ["opposite", "animal_sound"])
    assert reader.summaries.ids == reader.ids
    assert "newcomer" not in reader
    assert all(reader[name].modules for name in reader)
    now = AdapterBank.open(root)
    assert now.ids == ("newcomer", "number_word", "thing_colour")
    assert now.check().ok


@needs_fork
@pytest.mark.parametrize("half", [False, True], ids=["any change", "half a file"])
def test_a_writer_killed_anywhere_leaves_the_old_bank_or_the_new(tiny_bank, tmp_path, newcomer, half):
    root = Path(shutil.copytree(tiny_bank, tmp_path / "bank")).resolve()
    old = content(root)
    summary = summary_for(root, "newcomer")

    def action() -> None:
        add(AdapterBank.open(root), newcomer, summary=summary)

    action()
    new = content(root)
    assert new["ids"] != old["ids"]
    seen = []
    for n in range(200):
        shutil.rmtree(root)
        shutil.copytree(tiny_bank, root)
        ended = survives(n, action, root, half=half)
        now = content(root)
        assert now in (old, new), f"killed at change {n}"
        seen.append(now == new)
        assert AdapterBank.open(root).check().problems == [], f"killed at change {n}"
        if n % 4 == 0 and not seen[-1]:  # the next writer is not disturbed, and leaves no rubbish in the end
            action()
            age(root, 4000)
            update(root, lambda manifest: replace(manifest, name="later"))
            named = {record.path for record in AdapterBank.open(root).records.values()}
            assert {f"adapters/{path.name}" for path in (root / "adapters").iterdir()} == named
            assert len(list(root.glob("summaries*"))) == 1
            assert list((root / ".lorameta" / "staging").iterdir()) == []
        if ended:
            break
    assert ended
    assert len(seen) > (3 if half else 15)
    assert seen == sorted(seen)  # old up to one moment, new from then on


def test_journal_of_another_kind_is_no_reason_to_fail(root):
    (root / ".lorameta").mkdir()
    for text in ("", "[]", '{"a": "b"}', "{"):
        (root / ".lorameta" / "retired.json").write_text(text)
        assert garbage.retired(root) == set()
        update(root, lambda manifest: replace(manifest, name="fine"))


def test_removing_is_careful(root):
    bank = AdapterBank.open(root)
    with pytest.raises(UsageError, match="no adapter 'oposite', 'x'; did you mean opposite"):
        remove(bank, ["oposite", "x", "animal_sound"])
    with pytest.raises(UsageError, match="would be empty"):
        remove(bank, bank.ids)
    assert AdapterBank.open(root).ids == bank.ids


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
