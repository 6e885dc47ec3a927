"""Stacked banks: the same numbers from fewer files, the same files back, one adapter's bytes read for one adapter."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorameta.adapter.lazy import LazyModules
from lorameta.bank import AdapterBank, check_directory, edit
from lorameta.bank.sharding import move
from lorameta.bank.sharding.shard import capacity, row_layout
from lorameta.bank.sharding.stack import stack
from lorameta.bank.sharding.unstack import unstack
from lorameta.errors import BankError, LorametaError, UsageError
from tests.bank.sharding import stack_helpers
from tests.bank.sharding.stack_helpers import MIXED, WEIGHTS, Spec, files, make_bank, numbers
from tests.peft_helpers import SHAPES, Q


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    return make_bank(tmp_path_factory.mktemp("mixed") / "bank", MIXED)


@pytest.fixture(scope="module")
def stacked(mixed, tmp_path_factory) -> Path:
    root = Path(shutil.copytree(mixed, tmp_path_factory.mktemp("stacked") / "bank"))
    stack(root)
    return root


@pytest.fixture
def root(mixed, tmp_path) -> Path:
    """A bank of directories that a test may change."""
    return Path(shutil.copytree(mixed, tmp_path / "bank"))


@pytest.fixture
def rows(stacked, tmp_path) -> Path:
    """The same bank in shards."""
    return Path(shutil.copytree(stacked, tmp_path / "rows"))


def lacks_weights(root: Path) -> bool:
    return not list(root.glob(f"adapters/*/{WEIGHTS}"))


def remove(root: Path, id: str) -> None:
    """Take an adapter out of a bank, as a writer does."""
    edit.update(root, lambda old: replace(old, adapters=tuple(one for one in old.adapters if one.id != id)))


# The same numbers, the same files


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


def test_a_shard_is_laid_out_as_promised(stacked, mixed):
    """Against the source files, by safetensors' own reader."""
    from safetensors.torch import load_file

    bank = AdapterBank.open(stacked)
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


def test_peft_loads_what_undo_wrote(tmp_path, mixed):
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    root = Path(shutil.copytree(mixed, tmp_path / "bank"))
    expected = {name: load_peft_weights(str(root / "adapters" / name), device="cpu") for name in MIXED}
    stack(root)
    unstack(root)
    for name in MIXED:
        directory = str(root / "adapters" / name)
        assert PeftConfig.from_pretrained(directory).r == MIXED[name].rank
        found = load_peft_weights(directory, device="cpu")
        assert found.keys() == expected[name].keys()
        assert all(
            found[key].dtype == tensor.dtype and found[key].equal(tensor) for key, tensor in expected[name].items()
        )


def test_foreign_names_and_float64(tmp_path):
    specs = {
        "names": Spec(infix=".default"),
        "plain": Spec(),
        "wide": Spec(dtype="float64"),
        "single": Spec(dtype="float32"),
    }
    root = make_bank(tmp_path / "bank", specs)
    early = AdapterBank.open(root)
    before, expected = files(root), numbers(early)
    done = stack(root)
    assert (done.rounded, done.changed) == (("wide",), ())
    records = AdapterBank.open(root).records
    assert len({records[name].shard for name in ("names", "plain")}) == 1
    assert len({records[name].shard for name in ("wide", "single")}) == 1
    middle = AdapterBank.open(root)
    assert numbers(middle) == expected
    assert unstack(root).changed == ("names", "wide")
    for bank in (AdapterBank.open(root), middle):
        assert numbers(bank) == numbers(bank, lazy=True) == expected
    assert AdapterBank.open(root).check().problems == []
    after = files(root)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"bank.json", f"adapters/names/{WEIGHTS}", f"adapters/wide/{WEIGHTS}"}


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


# Which shards there are


def test_a_shard_is_as_large_as_was_asked_for(tmp_path):
    root = make_bank(tmp_path / "bank", {f"id-{i}": Spec() for i in range(7)})
    layout = row_layout(AdapterBank.open(root).lazy("id-0").modules)
    for limit in (1, 9_500, 10**9):
        stack(root, shard_bytes=limit)
        shards = AdapterBank.open(root).manifest.shards
        assert all((root / shard).stat().st_size <= limit for shard in shards) or limit == 1
        assert len(shards) == -(-7 // capacity(layout, limit))
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


# One adapter, one row


def spans(root: Path, id: str) -> list[tuple[int, int]]:
    modules = AdapterBank.open(root).lazy(id).modules
    assert isinstance(modules, LazyModules)
    assert modules.shard is modules.file
    found = []
    for entry in modules.file.entries.values():
        size = (entry.stop - entry.start) // entry.shape[0]
        found.append((entry.start + modules.row * size, entry.start + (modules.row + 1) * size))
    return found


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


# Damage and hostility


def change_record(root: Path, id: str, **fields) -> None:
    def change(content):
        (record,) = [record for record in content["adapters"] if record["id"] == id]
        record.update(fields)

    stack_helpers.edit(root, change)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"shard": "../x.safetensors"}, r"adapters\[a\]\.shard: '\.\./x\.safetensors' is not among the bank's shards"),
        ({"shard": "shards/0123456789abcdef.safetensors"}, "is not among the bank's shards"),
        ({"shard": ""}, "shard, row and row_sha256 belong together"),
        ({"row": None}, "belong together"),
        ({"row_sha256": ""}, "belong together"),
        ({"row": -1}, r"adapters\[a\]\.row is -1"),
        ({"row": True}, r"adapters\[a\]\.row is True"),
        ({"row": 1}, r"adapters\[b\]\.row: 1 of .* is that of 'a'"),
        ({"row_sha256": "xyz"}, "64 hexadecimal digits"),
    ],
)
def test_records_that_cannot_be_are_refused(rows, fields, named):
    change_record(rows, "a", **fields)
    with pytest.raises(BankError, match=named):
        AdapterBank.open(rows)


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "shards/x.safetensors", "shards/../bank.json", ""])
def test_shards_of_other_names_are_refused(rows, file):
    stack_helpers.edit(rows, lambda content: content["shards"].update({file: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(BankError, match="is no name of a shard"):
        AdapterBank.open(rows)


def test_a_bank_of_format_1_has_no_shards(rows):
    stack_helpers.edit(rows, lambda content: content.update(format=1))
    with pytest.raises(BankError, match="a bank of format 1 has none"):
        AdapterBank.open(rows)


def test_rows_that_are_not_there_or_anothers_are_named(rows):
    change_record(rows, "g", row=7)
    for call in (AdapterBank.open(rows).__getitem__, AdapterBank.open(rows).lazy):
        with pytest.raises(BankError, match=r"shards/\w+\.safetensors has no row 7, only 3"):
            call("g")
    change_record(rows, "a", row=2)
    with pytest.raises(BankError, match=r"has 'g' in row 2"):
        AdapterBank.open(rows)["a"]


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


def test_a_configuration_that_changed_is_found_in_stacked_banks_too(rows):
    config = rows / "adapters" / "a" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 6.0', '"lora_alpha": 60.0'))
    for call in (AdapterBank.open(rows).__getitem__, AdapterBank.open(rows).lazy):
        with pytest.raises(BankError, match=r"alpha is 60\.0 by the files(.|\n)*config_sha256"):
            call("a")


def test_lazy_directories_are_refused_as_eager_ones_are(root):
    os.truncate(root / "adapters" / "a" / WEIGHTS, 100)
    (root / "adapters" / "b" / WEIGHTS).rename(root / "adapters" / "b" / "adapter_model.bin")
    shutil.copy(root / "adapters" / "e" / WEIGHTS, root / "adapters" / "g" / WEIGHTS)
    bank = AdapterBank.open(root)
    for name, named in (("a", "truncated"), ("b", "adapter_model.bin is a pickle"), ("g", "bytes is .* by the files")):
        with pytest.raises(BankError, match=named):
            bank.lazy(name)


# Refusals: all at once, nothing lost


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


def test_a_damaged_row_is_neither_unstacked_nor_restacked(rows):
    record = AdapterBank.open(rows).records["g"]
    start, _ = spans(rows, "g")[0]
    with (rows / record.shard).open("r+b") as file:
        file.seek(start)
        file.write(b"\1\2")
    with pytest.raises(BankError, match=r"g: .*row 2: is not what was stacked"):
        unstack(rows)
    assert f"adapters/g/{WEIGHTS}" not in files(rows)
    remove(rows, "a")
    with pytest.raises(BankError, match=r"g: .*row 2: is not what was stacked"):
        stack(rows, restack=True)
    assert AdapterBank.open(rows).check().problems != []
    assert len(AdapterBank.open(rows)["b"].modules) == 3


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


# Opening


def test_a_bank_of_502_opens_without_its_shards_in_a_few_times_what_its_json_takes(tmp_path):
    """In a process of its own: within six times what parsing the JSON takes (measured: three to four times)."""
    root = make_bank(tmp_path / "bank", {"a": Spec(), "b": Spec()})
    stack(root)

    def multiply(content):
        first = content["adapters"][0]
        more = {"description": "word " * 120, "training": {"losses": [0.1 * i for i in range(20)]}}
        content["adapters"] = [{**first, **more, "id": f"task-{i}", "row": i} for i in range(502)]

    stack_helpers.edit(root, multiply)
    shutil.rmtree(root / "shards")
    code = """
    import json, sys, time
    from pathlib import Path
    from lorameta.bank import AdapterBank
    root, taken = Path(sys.argv[1]), {"open": [], "json": []}
    for _ in range(7):
        start = time.process_time()
        bank = AdapterBank.open(root)
        middle = time.process_time()
        json.loads((root / "bank.json").read_bytes().decode())
        taken["open"].append(middle - start)
        taken["json"].append(time.process_time() - middle)
    print(json.dumps({"adapters": len(bank), **{key: min(values) for key, values in taken.items()}}))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(root)], capture_output=True, text=True, check=True
    )
    told = json.loads(result.stdout)
    assert told["adapters"] == 502
    assert told["open"] < 6 * told["json"] + 0.01, told
