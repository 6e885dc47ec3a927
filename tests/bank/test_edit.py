"""Changing a bank: alone, as a whole, and without disturbing those who have it open."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorameta.bank import AdapterBank, edit
from lorameta.bank.edit import Change, free_path, staging, update
from lorameta.bank_builder.members import add, remove
from lorameta.errors import BankError, LorametaError, UsageError
from tests.bank.editing import age, content, make_newcomer, summary_for
from tests.bank.faults import needs_fork, survives


@pytest.fixture
def root(tiny_bank, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bank, tmp_path / "bank")).resolve()


@pytest.fixture
def newcomer(tmp_path) -> Path:
    """A sound adapter for the bank, with its summary beside it."""
    return make_newcomer(tmp_path, "newcomer", 99)


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


def test_removing_is_careful(root):
    bank = AdapterBank.open(root)
    with pytest.raises(UsageError, match="no adapter 'oposite', 'x'; did you mean opposite"):
        remove(bank, ["oposite", "x", "animal_sound"])
    with pytest.raises(UsageError, match="would be empty"):
        remove(bank, bank.ids)
    assert AdapterBank.open(root).ids == bank.ids
