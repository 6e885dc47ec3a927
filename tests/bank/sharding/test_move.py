"""Weights on the move: readers that are open go on, and a run that is killed anywhere leaves a whole bank."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import shutil
import threading
from pathlib import Path

import pytest

from lorameta.bank import AdapterBank
from lorameta.bank.sharding.stack import stack
from lorameta.bank.sharding.unstack import unstack
from lorameta.errors import BankError, LorametaError
from tests.bank.sharding.stack_helpers import WEIGHTS, Spec, files, make_bank, numbers, write_adapter
from tests.peft_helpers import Q

#: Two layouts, so two shards.
SPECS = {"a": Spec(modules=(Q,)), "b": Spec(modules=(Q,), dtype="float32"), "c": Spec(modules=(Q,), alpha=2.0)}
KILLED = 86


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    """Processes are killed here, not machines: what was written is there, and flushing it only takes time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def states(tmp_path_factory) -> dict[str, Path]:
    """The bank in directories, in two shards, and in three (for restack)."""
    folder = tmp_path_factory.mktemp("states")
    root = make_bank(folder / "directories", SPECS)
    stacked = Path(shutil.copytree(root, folder / "stacked"))
    stack(stacked)
    single = Path(shutil.copytree(root, folder / "single"))
    stack(single, shard_bytes=1)
    return {"directories": root, "stacked": stacked, "single": single}


MOVES = {
    "stack": ("directories", stack, "stacked"),
    "undo": ("stacked", unstack, "directories"),
    "restack": ("single", lambda root: stack(root, restack=True), "stacked"),
}


def content(root: Path) -> dict[str, bytes]:
    """What a bank consists of, without what waits to be removed."""
    return {
        name: data
        for name, data in files(root).items()
        if name == "bank.json" or name.startswith("shards/") or name.endswith(WEIGHTS)
    }


# Readers


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("read_before", [False, True])
def test_an_open_reader_goes_on(states, tmp_path, move, read_before):
    start, run, _ = MOVES[move]
    root = Path(shutil.copytree(states[start], tmp_path / "bank"))
    expected = numbers(AdapterBank.open(root))
    early = AdapterBank.open(root)
    view = early.without("b")
    kept = [early.lazy(name) for name in early] if read_before else []
    sent = pickle.dumps(early)
    run(root)
    for bank in (early, pickle.loads(sent)):
        assert numbers(bank) == numbers(bank, lazy=True) == expected
    assert numbers(view) == {name: expected[name] for name in "ac"}
    for adapter in kept:
        held = {m: (pair.A.tobytes(), pair.B.tobytes(), pair.scaling) for m, pair in adapter.modules.items()}
        assert held == expected[adapter.name]


def test_readers_never_fail_while_a_writer_moves_to_and_fro(states, tmp_path):
    root = Path(shutil.copytree(states["directories"], tmp_path / "bank"))
    expected = numbers(AdapterBank.open(root))
    done, wrong, rounds = threading.Event(), [], [0, 0]

    def read(number: int) -> None:
        bank = AdapterBank.open(root)
        while not done.is_set():
            try:
                if number % 2:
                    bank = AdapterBank.open(root)
                if numbers(bank, lazy=number < 2) != expected:
                    wrong.append("other numbers")
            except Exception as error:
                wrong.append(error)
            rounds[number % 2] += 1

    readers = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(4):
        stack(root)
        stack(root, shard_bytes=1, restack=True)
        unstack(root)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert min(rounds) > 3


def test_the_manifest_is_read_again_once_not_for_each_adapter(states, tmp_path, monkeypatch):
    from lorameta.bank import reader

    root = Path(shutil.copytree(states["directories"], tmp_path / "bank"))
    bank = AdapterBank.open(root)
    stack(root)
    calls, real = [], reader.read_manifest
    monkeypatch.setattr(reader, "read_manifest", lambda path: calls.append(path) or real(path))
    for _ in range(2):
        numbers(bank)
    assert len(calls) == 1


def test_another_adapter_of_the_same_id_is_not_taken_for_the_old_one(states, tmp_path):
    root = Path(shutil.copytree(states["directories"], tmp_path / "bank"))
    early = AdapterBank.open(root)
    late = make_bank(tmp_path / "other", {**SPECS, "a": Spec(modules=(Q,), seed=5)})
    stack(root)
    stacked = AdapterBank.open(root)
    shutil.rmtree(root)
    shutil.copytree(late, root)
    for call in (early.__getitem__, stacked.__getitem__, stacked.lazy):
        with pytest.raises(BankError, match="names another adapter of this id by now; open the bank again"):
            call("a")
    shutil.rmtree(root / "adapters" / "c")
    make = make_bank(tmp_path / "less", {name: SPECS[name] for name in "ab"})
    shutil.copy(make / "bank.json", root / "bank.json")
    with pytest.raises(BankError, match="names no adapter of this id by now"):
        stacked["c"]


# Writers that are killed


class Ticker:
    """Counts every step that changes the disk, and does not come back from the one it is to die in."""

    def __init__(self, last: int | None = None, error: OSError | None = None) -> None:
        self.steps, self.last, self.error = 0, last, error

    def step(self, partly=None) -> None:
        self.steps += 1
        if self.steps - 1 == self.last:
            if partly is not None:
                partly()
            if self.error is not None:
                raise self.error
            os._exit(KILLED)

    def install(self, monkeypatch) -> None:
        deleting = [] if self.error else [(Path, "unlink"), (Path, "rmdir"), (shutil, "rmtree")]  # needs no room
        for owner, name in [(Path, "replace"), (Path, "rename"), (Path, "mkdir"), (os, "fsync"), *deleting]:
            monkeypatch.setattr(owner, name, self.wrapped(getattr(owner, name)))
        real, ticker = Path.open, self

        def opened(path, mode="r", *rest, **options):
            if not set(mode) & set("wxa+"):
                return real(path, mode, *rest, **options)
            ticker.step()
            file = real(path, mode, *rest, **options)
            write = file.write

            class Written:
                def __getattr__(self, name):
                    return getattr(file, name)

                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def write(self, data):
                    ticker.step(lambda: (write(bytes(data)[: len(bytes(data)) // 2]), file.flush()))
                    return write(data)

            return Written()

        monkeypatch.setattr(Path, "open", opened)

    def wrapped(self, real):
        def call(*arguments, **options):
            self.step()
            return real(*arguments, **options)

        return call


def steps_of(run, root: Path, monkeypatch) -> int:
    ticker = Ticker()
    with monkeypatch.context() as patch:
        ticker.install(patch)
        run(root)
    return ticker.steps


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be killed in the middle of a call")
@pytest.mark.parametrize("move", MOVES)
def test_killed_at_any_step_the_bank_is_whole_and_a_second_run_finishes(states, tmp_path, monkeypatch, move):
    start, run, end = MOVES[move]
    expected, goal = numbers(AdapterBank.open(states[start])), content(states[end])
    total = steps_of(run, Path(shutil.copytree(states[start], tmp_path / "whole")), monkeypatch)
    assert content(tmp_path / "whole") == goal
    assert total > 30
    for last in range(total):
        root = Path(shutil.copytree(states[start], tmp_path / f"bank-{last}"))
        reader = AdapterBank.open(root)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                Ticker(last).install(monkeypatch)
                run(root)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED, last
        for bank in (AdapterBank.open(root), reader):
            assert numbers(bank) == expected, last
        run(root)
        assert content(root) == goal, last
        assert numbers(reader) == expected, last
        shutil.rmtree(root)


@pytest.mark.parametrize("move", MOVES)
def test_a_full_disk_is_an_error_and_loses_nothing(states, tmp_path, monkeypatch, move):
    start, run, end = MOVES[move]
    expected, goal = numbers(AdapterBank.open(states[start])), content(states[end])
    total = steps_of(run, Path(shutil.copytree(states[start], tmp_path / "whole")), monkeypatch)
    told = []
    for last in range(0, total, 3):
        root = Path(shutil.copytree(states[start], tmp_path / f"bank-{last}"))
        with monkeypatch.context() as patch:
            Ticker(last, OSError(errno.ENOSPC, "No space left on device")).install(patch)
            try:
                run(root)
            except LorametaError as error:
                told.append(str(error))
        assert numbers(AdapterBank.open(root)) == expected, last
        run(root)
        assert content(root) == goal, last
        shutil.rmtree(root)
    assert len(told) > 5
    assert all("No space left on device" in text for text in told)


def test_two_writers_at_once(states, tmp_path):
    root = Path(shutil.copytree(states["directories"], tmp_path / "bank"))
    wrong = []

    def work() -> None:
        try:
            stack(root)
        except Exception as error:
            wrong.append(error)

    writers = [threading.Thread(target=work) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert wrong == []
    assert content(root) == content(states["stacked"])


def test_an_adapter_that_two_paths_lead_to_is_not_deleted_under_the_other(tmp_path):
    """A link inside the bank: what is left behind by the one is what the other needs."""
    root = make_bank(tmp_path / "bank", {"a": Spec(), "b": Spec()})
    shutil.rmtree(root / "adapters" / "b")
    write_adapter(root / "adapters" / "b", Spec(seed=9))
    (root / "adapters" / "b" / WEIGHTS).unlink()
    (root / "adapters" / "b" / WEIGHTS).symlink_to(root / "adapters" / "a" / WEIGHTS)
    path = root / "bank.json"
    manifest = json.loads(path.read_text())
    one, two = manifest["adapters"]
    two.update(sha256=one["sha256"], bytes=one["bytes"])
    path.write_text(json.dumps(manifest))
    expected = numbers(AdapterBank.open(root))
    stack(root, ids=["b"])
    assert numbers(AdapterBank.open(root)) == expected
    stack(root)
    assert numbers(AdapterBank.open(root)) == expected
