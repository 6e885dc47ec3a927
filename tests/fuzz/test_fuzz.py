"""A short run of the fuzz harness; the long ones are by hand, and in the build server's check."""

from __future__ import annotations

import random

import pytest

from lorameta.errors import BankError
from tests.fuzz import bank, kinds, mutate
from tests.fuzz.run import run


def test_two_thousand_damaged_inputs(tmp_path):
    found = run(bank.write(tmp_path / "small"), tmp_path, range(2000), seed=1)
    assert not found.failures, "\n".join(found.failures[:20])
    assert set(found.counts) == set(kinds.Kinds(tmp_path / "small", tmp_path / "again").all())
    assert all(
        found.counts[name] > found.read[name] for name in found.counts if name not in ("records", "adapter_config.json")
    )


def test_a_fault_would_be_found(tmp_path, monkeypatch):
    """The harness fails where a reader raises something else, or takes long."""
    small = bank.write(tmp_path / "small")

    def broken(*_: object) -> None:
        raise KeyError("not ours")

    monkeypatch.setattr(kinds, "parse_manifest", broken)
    found = run(small, tmp_path / "one", range(3), only="bank.json")
    assert [line.partition(": ")[2][:8] for line in found.failures] == ["KeyError"] * 3

    def slow(*_: object) -> None:
        while run.__globals__["time"].process_time() < stop:
            pass
        raise BankError("ours")

    monkeypatch.setattr(kinds, "parse_manifest", slow)
    monkeypatch.setitem(run.__globals__, "SECONDS", 0.05)
    stop = run.__globals__["time"].process_time() + 1.0
    found = run(small, tmp_path / "two", range(1), only="bank.json")
    assert "took" in found.failures[0]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_number_is_the_same_input(seed):
    one, other = (mutate.text(random.Random(f"{seed}/7"), {"a": [1, {"b": "c"}]}) for _ in range(2))
    assert one == other
