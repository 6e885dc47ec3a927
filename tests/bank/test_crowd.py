"""Eight writers and four readers on one bank: every change is in it at the end, and no reader finds it broken."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder.members import add, remove
from tests.bank.faults import needs_fork
from tests.fuzz.bank import IDS, write
from tests.peft_helpers import K, Q, random_factors, write_peft

pytestmark = [needs_fork, pytest.mark.slow]
WRITERS, READERS, ROUNDS = 8, 4, 5


def fork(work: Callable[[], object]) -> tuple[int, int]:
    """Run it in a process of its own; its id, and where it writes how often it did its work."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(work()).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
    os.close(writing)
    return child, reading


def test_a_crowd(tmp_path):
    root = write(tmp_path / "bank")
    stop = tmp_path / "stop"
    shapes = {Q: (6, 5), K: (4, 5)}
    known = AdapterBank.open(root).summaries

    def writer(number: int) -> int:
        """Add an adapter and take it out again, in turns; the last one stays."""
        for turn in range(ROUNDS):
            name = f"w{number}t{turn}"
            folder = write_peft(tmp_path / name, random_factors(number, 2, shapes), base_model_name_or_path="base")
            add(AdapterBank.open(root), folder, summary=replace(known.select([known.ids[0]]), ids=(name,)))
            if turn < ROUNDS - 1:
                remove(AdapterBank.open(root), [name])
        return 2 * ROUNDS - 1

    def reader() -> int:
        looks = 0
        while not stop.exists():
            bank = AdapterBank.open(root)
            assert set(IDS) <= set(bank.ids)
            assert bank.summaries.ids == tuple(bank.ids)
            for name in bank.ids:
                assert set(bank[name].modules) == set(shapes)
            looks += 1
        return looks

    readers = [fork(reader) for _ in range(READERS)]
    writers = [fork(lambda number=number: writer(number)) for number in range(WRITERS)]

    def wait(children: list[tuple[int, int]]) -> int:
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, _ in children]
        assert codes == [0] * len(children)
        return sum(int(os.read(pipe, 20)) for _, pipe in children)

    try:
        changes = wait(writers)
    finally:
        stop.touch()
        looks = wait(readers)
    print(f"{changes} changes by {WRITERS} writers, {looks} looks by {READERS} readers", file=sys.__stderr__)
    bank = AdapterBank.open(root)
    assert sorted(bank.ids) == sorted([*IDS, *(f"w{number}t{ROUNDS - 1}" for number in range(WRITERS))])
    assert looks > 0
    assert bank.check().ok
    assert not list((root / ".lorameta" / "staging").glob("*"))


def test_a_reader_that_fails_is_found(tmp_path):
    child, _ = fork(lambda: AdapterBank.open(Path(tmp_path) / "none"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
