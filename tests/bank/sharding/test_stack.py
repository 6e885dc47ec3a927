"""Stacked banks: the same numbers from fewer files, the same files back, one adapter's bytes read for one adapter."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorameta.bank import AdapterBank
from lorameta.bank.sharding import move
from lorameta.bank.sharding.shard import capacity, row_layout
from lorameta.bank.sharding.stack import stack
from lorameta.bank.sharding.unstack import unstack
from lorameta.errors import BankError, LorametaError, UsageError
from tests.bank.sharding.stack_helpers import WEIGHTS, Spec, files, lacks_weights, make_bank, numbers, remove
from tests.peft_helpers import SHAPES


def test_round_trip_of_a_mixed_bank(root):
    before, bank = files(root), AdapterBank.open(root)
    expected, content_hash = numbers(bank), bank.content_hash
    assert numbers(bank, lazy=True) == expected
    done = stack(root)
    assert (done.adapters, done.changed, done.rounded) == (7, (), ())
    assert len(done.shards) == 5  # a, b and g share a layout
    assert lacks_weights(root)
    bank = AdapterBank.open(root)
    assert numbers(bank) == numbers(bank, lazy=True) == expected
    assert bank.content_hash == content_hash
    assert bank.check().problems == []
    for name in bank:
        halves = [half for pair in bank.lazy(name).modules.values() for half in (pair.A, pair.B)]
        assert all(half.flags.c_contiguous and half.dtype == np.float32 for half in halves)
    assert json.loads((root / "bank.json").read_text())["format"] == 2
    done = unstack(root)
    assert (done.adapters, len(done.shards), done.changed) == (7, 5, ())
    assert files(root) == before
    assert not (root / "shards").exists()


SPECS = st.builds(
    Spec,
    rank=st.integers(1, 4),
    alpha=st.sampled_from([0.5, 6.0, 16.0]),
    rslora=st.booleans(),
    dtype=st.sampled_from(["bfloat16", "float16", "float32"]),
    modules=st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, unique=True).map(tuple),
    seed=st.integers(0, 99),
)


@settings(max_examples=12)
@given(specs=st.lists(SPECS, min_size=1, max_size=5), size=st.sampled_from([1, 5000, 10**9]), part=st.integers(0, 5))
def test_any_bank_comes_back_bit_by_bit(specs, size, part, tmp_path_factory):
    root = tmp_path_factory.mktemp("any") / "bank"
    make_bank(root, {f"id-{i}": spec for i, spec in enumerate(specs)})
    before, bank = files(root), AdapterBank.open(root)
    expected = numbers(bank)
    stack(root, shard_bytes=size, ids=list(bank)[:part])
    for _ in range(2):
        partly = AdapterBank.open(root)
        assert numbers(partly) == numbers(partly, lazy=True) == expected
        assert partly.content_hash == bank.content_hash
        stack(root, shard_bytes=size)
    assert lacks_weights(root)
    assert numbers(bank) == expected  # it was opened before anything moved
    assert unstack(root).changed == ()
    assert files(root) == before
    shutil.rmtree(root)


def test_the_embedded_bank_generates_the_same_adapter_from_shards(tmp_path):
    from lorameta import generate_adapter

    tiny = AdapterBank.open("tiny").path
    root = Path(shutil.copytree(tiny, tmp_path / "bank", ignore=shutil.ignore_patterns("recipe")))
    stack(root, shard_bytes=2_000_000)
    dataset = [{"input": f"Is {i} odd or even?", "output": "odd" if i % 2 else "even"} for i in range(8)]
    made = []
    for bank, name in (("embedded", "one"), (root, "two")):
        adapter = generate_adapter(dataset, bank=bank, distance="js", top_k=8)
        made.append((adapter.weights, (adapter.save_pretrained(tmp_path / name) / WEIGHTS).read_bytes()))
    assert len(AdapterBank.open(root).manifest.shards) == 3
    assert made[0] == made[1]


def test_a_shard_is_as_large_as_was_asked_for(tmp_path):
    root = make_bank(tmp_path / "bank", {f"id-{i}": Spec() for i in range(7)})
    layout = row_layout(AdapterBank.open(root).lazy("id-0").modules)
    for limit, most in ((1, 1), (9_500, 2), (10**9, 7)):
        assert min(capacity(layout, limit), 7) == most
        stack(root, shard_bytes=limit)
        shards = AdapterBank.open(root).manifest.shards
        assert len(shards) == math.ceil(7 / most)
        if most > 1:  # a row alone may be larger
            assert max((root / shard).stat().st_size for shard in shards) <= limit
        unstack(root)
    with pytest.raises(UsageError, match="holds nothing"):
        stack(root, shard_bytes=0)


def test_what_was_added_since_is_stacked_and_restack_merges(root):
    expected = numbers(AdapterBank.open(root))
    assert stack(root, ids=["a", "c"]).adapters == 2
    first = AdapterBank.open(root)
    assert (first.records["a"].shard != "", first.records["b"].shard) == (True, "")
    assert numbers(first) == expected
    done = stack(root)
    assert (done.adapters, len(done.shards)) == (5, 4)
    again = AdapterBank.open(root)
    assert again.records["a"] == first.records["a"]  # shards are never touched again
    assert stack(root) == move.Moved()
    done = stack(root, restack=True)
    assert (done.adapters, len(done.shards)) == (3, 1)  # a with b and g
    assert stack(root, restack=True) == move.Moved()
    for bank in (first, again, AdapterBank.open(root)):
        assert numbers(bank) == numbers(bank, lazy=True) == expected
    assert {path.name for path in (root / "shards").iterdir()} == {
        Path(shard).name for shard in AdapterBank.open(root).manifest.shards
    }


def test_restack_drops_the_rows_of_removed_adapters(rows):
    expected = numbers(AdapterBank.open(rows))
    remove(rows, "b")
    remove(rows, "f")
    early = AdapterBank.open(rows)
    shard = early.records["a"].shard
    assert early.records["g"].row == 2
    assert early.check().problems == []
    size = (rows / shard).stat().st_size
    assert stack(rows, restack=True).adapters == 2
    late = AdapterBank.open(rows)
    assert (late.records["g"].row, len(late.manifest.shards)) == (1, 4)
    assert (rows / late.records["g"].shard).stat().st_size < size
    assert not (rows / shard).exists()
    del expected["b"], expected["f"]
    assert numbers(early) == numbers(late) == expected
    assert unstack(rows).adapters == 5
    assert AdapterBank.open(rows).manifest.shards == {}


def test_a_writer_who_comes_between_keeps_what_he_did(root, monkeypatch):
    from lorameta.bank.sharding import stack as module

    write = module.write_shard

    def interrupted(path, ids, *rest):
        if "b" in ids:
            remove(root, "b")
        return write(path, ids, *rest)

    monkeypatch.setattr(module, "write_shard", interrupted)
    done = stack(root)
    assert done.adapters == 6
    bank = AdapterBank.open(root)
    assert "b" not in bank
    assert bank.records["g"].row == 2
    assert bank.check().problems == []
    assert (root / "adapters" / "b" / WEIGHTS).exists()  # the one who removed it deletes it


def test_damaged_adapters_are_not_stacked_and_all_are_named(root):
    paths = {name: root / "adapters" / name / WEIGHTS for name in "abf"}
    for name in "ab":  # right in size and header, so that only reading finds them
        data = bytearray(paths[name].read_bytes())
        data[-1] ^= 1
        paths[name].write_bytes(data)
    before = files(root)
    with pytest.raises(BankError) as caught:
        stack(root)
    assert "a: sha256 is" in str(caught.value)
    assert "b: sha256 is" in str(caught.value)
    assert files(root) == before
    os.truncate(paths["f"], 200)
    paths["a"].unlink()
    with pytest.raises(BankError, match=r"nothing was moved:(.|\n)*a: .*missing(.|\n)*f: .*truncated"):
        stack(root)
    with pytest.raises(UsageError, match="no adapter 'x'"):
        stack(root, ids=["a", "x"])
    with pytest.raises(BankError, match="is not a bank"):
        stack(root / "adapters")


def test_without_room_nothing_is_begun(root, rows, monkeypatch):
    for call, place in ((stack, root), (unstack, rows)):
        before = files(place)
        free = type("Usage", (), {"free": 1 << 26})
        monkeypatch.setattr(move.shutil, "disk_usage", lambda path, free=free: free)
        with pytest.raises(LorametaError, match=r"GB free; .* GB are needed"):
            call(place)
        assert files(place) == before


def test_progress_counts_the_bytes_of_the_weights(root):
    told: list[int] = []
    stack(root, progress=told.append)
    written = sum(told)
    told.clear()
    unstack(root, progress=told.append)
    assert sum(told) == written
    size = sum(path.stat().st_size for path in root.glob(f"adapters/*/{WEIGHTS}"))
    headers = sum(8 + struct.unpack("<Q", path.read_bytes()[:8])[0] for path in root.glob(f"adapters/*/{WEIGHTS}"))
    assert written == size - headers
