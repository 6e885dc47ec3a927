"""A shard holds what was promised, and one adapter's bytes are read for one adapter."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from lorameta.adapter.lazy import LazyModules
from lorameta.bank import AdapterBank, check_directory
from lorameta.bank.sharding.stack import stack
from lorameta.errors import BankError
from tests.bank.sharding.stack_helpers import WEIGHTS, Spec, make_bank, numbers, spans
from tests.peft_helpers import SHAPES, Q


def test_a_shard_is_laid_out_as_promised(stacked, mixed):
    """Against the source files, by safetensors' own reader."""
    from safetensors.torch import load_file

    bank = AdapterBank.open(stacked)
    assert len(bank.manifest.shards) == 5
    for shard, entry in bank.manifest.shards.items():
        data = (stacked / shard).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        assert entry == {"sha256": digest, "bytes": len(data)}
        assert shard == f"shards/{digest[:16]}.safetensors"
        (length,) = struct.unpack("<Q", data[:8])
        assert (8 + length) % 4096 == 0
        header = json.loads(data[8 : 8 + length])
        meta = json.loads(header.pop("__metadata__")["lorameta"])
        members = sorted(record.id for record in bank.records.values() if record.shard == shard)
        assert meta == {"format": 1, "ids": members}
        order = sorted(header, key=lambda name: header[name]["data_offsets"])
        assert order == sorted(header)
        held = load_file(stacked / shard)
        for row, name in enumerate(members):
            source = load_file(mixed / "adapters" / name / WEIGHTS)
            hashed = hashlib.sha256()
            for tensor in sorted(held):
                expected = source[f"base_model.model.{tensor}.weight"]
                expected = expected.T if tensor.endswith("lora_B") else expected
                assert held[tensor].dtype == expected.dtype
                assert (held[tensor][row] == expected).all()
                start, stop = (8 + length + offset for offset in header[tensor]["data_offsets"])
                size = (stop - start) // len(members)
                hashed.update(data[start + row * size : start + (row + 1) * size])
            assert bank.records[name].row == row
            assert bank.records[name].row_sha256 == hashed.hexdigest()


def test_reading_one_adapter_touches_only_its_bytes(rows, monkeypatch):
    expected = numbers(AdapterBank.open(rows).select(["b"]))
    bank = AdapterBank.open(rows)
    bank.lazy("b")  # the header is read once
    read, real = [], os.preadv

    def counting(descriptor, buffers, offset):
        read.append((offset, offset + sum(map(len, buffers))))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    assert numbers(bank.select(["b"])) == expected
    assert sorted(read) == sorted(spans(rows, "b"))
    read.clear()
    _ = bank.lazy("b").modules[Q]
    assert len(read) == 2
    assert set(read) < set(spans(rows, "b"))


def test_damage_to_others_does_not_matter_and_is_named_where_it_is(rows):
    expected = numbers(AdapterBank.open(rows).select(["b"]))
    kept = spans(rows, "b")
    path = rows / AdapterBank.open(rows).records["b"].shard
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    spoilt = bytearray(data[: 8 + length] + b"\x55" * (len(data) - 8 - length))
    for start, stop in kept:
        spoilt[start:stop] = data[start:stop]
    path.write_bytes(spoilt)
    bank = AdapterBank.open(rows)
    assert numbers(bank.select(["b"])) == expected
    for name, row in (("a", 0), ("g", 2)):
        with pytest.raises(BankError, match=rf"'{name}' (.|\n)*row {row}: is not what was stacked \(SHA-256\)"):
            bank[name]
    assert "g: " in "\n".join(bank.check().problems)


def test_lazy_modules_know_their_layout_without_reading(rows, root, monkeypatch):
    for place in (rows, root):
        bank = AdapterBank.open(place)
        eager, lazy = bank["c"].modules, bank.lazy("c").modules
        monkeypatch.setattr(os, "preadv", None)
        assert isinstance(lazy, LazyModules)
        assert list(lazy) == list(eager) == sorted(SHAPES)
        assert lazy.layout == {module: (pair.rank, *pair.shape, pair.scaling) for module, pair in eager.items()}
        assert (Q in lazy, "nope" in lazy, len(lazy)) == (True, False, 3)
        assert (lazy.shard is None) == (place == root)
        monkeypatch.undo()
        with pytest.raises(KeyError):
            lazy["nope"]


def test_numbers_that_are_not_finite_are_named_when_they_are_read(tmp_path):
    root = make_bank(tmp_path / "bank", {"a": Spec(dtype="float32"), "b": Spec(dtype="float32")})
    stack(root)
    record = AdapterBank.open(root).records["b"]
    start, _ = spans(root, "b")[-1]
    with (root / record.shard).open("r+b") as file:
        file.seek(start)
        file.write(struct.pack("<f", float("nan")))
    lazy = AdapterBank.open(root).lazy("b").modules
    with pytest.raises(BankError, match=r"lora_B has 1 values that are NaN"):
        dict(lazy)
    with pytest.raises(BankError, match=r"lora_B has 1 values that are NaN"):
        AdapterBank.open(root)["b"]


def foreign_shard(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(path.stat().st_size, dtype=np.uint8)}, path)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: os.truncate(path, 5000), "is truncated"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 9\n"), "git-LFS pointer"),
        (lambda path: path.write_bytes(b"<html></html>"), "HTML"),
        (foreign_shard, "bytes, .* by bank.json"),
    ],
)
def test_damaged_shards_are_named_for_each_of_their_adapters(rows, spoil, named):
    records = AdapterBank.open(rows).records
    shard = records["a"].shard
    spoil(rows / shard)
    bank = AdapterBank.open(rows)  # opening reads no shard
    for name in ("a", "b", "g"):
        for call in (bank.__getitem__, bank.lazy):
            with pytest.raises(BankError, match=named) as caught:
                call(name)
            assert Path(shard).name in str(caught.value)
    assert len(bank["c"].modules) == 3
    report = check_directory(rows)
    assert any(Path(shard).name in problem for problem in report.problems)


def test_a_file_that_is_no_shard_is_named(rows):
    record = AdapterBank.open(rows).records["c"]
    path = rows / record.shard
    for data, named in (
        (rows / ".." / "x", "header does not name its adapters"),
        ({"format": 3, "ids": ["c"]}, "another version"),
        ({"format": 1, "ids": ["c", "d"]}, "do not have 2 rows each"),
    ):
        old = path.read_bytes()
        (length,) = struct.unpack("<Q", old[:8])
        header = json.loads(old[8 : 8 + length])
        header["__metadata__"] = {"lorameta": json.dumps(data) if isinstance(data, dict) else "nonsense"}
        text = json.dumps(header, separators=(",", ":")).encode()
        path.write_bytes(old[:8] + text.ljust(length) + old[8 + length :])
        with pytest.raises(BankError, match=named):
            AdapterBank.open(rows)["c"]


def test_a_shard_that_is_a_link_out_of_the_bank_is_refused(rows, tmp_path):
    shard = AdapterBank.open(rows).records["a"].shard
    shutil.move(rows / shard, tmp_path / "moved")
    (rows / shard).symlink_to(tmp_path / "moved")
    for call in (AdapterBank.open(rows).__getitem__, AdapterBank.open(rows).lazy):
        with pytest.raises(BankError, match="a link that leads out of the bank"):
            call("a")


def foreign_shard(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(path.stat().st_size, dtype=np.uint8)}, path)
