"""Adapters of one frozen A in 8 bits: near the originals, mixed exactly, checked, refused by older versions."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank, AdapterRecord, BaseRecord, check_bank, write_bank
from lorameta.bank.records import FORMATS
from lorameta.bank.sharding.quantize import quantize
from lorameta.bank.sharding.quantized import quantize_columns
from lorameta.bank.sharding.stack import stack
from lorameta.bank.sharding.unstack import unstack
from lorameta.combiner import auto, combine
from lorameta.encoder.summary import DatasetSummary, Summaries
from lorameta.errors import BankError
from tests.bank.parts import edit
from tests.bank.sharding.stack_helpers import files
from tests.peft_helpers import K, Q, random_factors, write_peft

NAMES = ("a", "b", "c", "d")


def make(root: Path, factors: dict[str, dict]) -> Path:
    for name, found in factors.items():
        write_peft(root / "adapters" / name, found, base_model_name_or_path="some/base")
    parts = [DatasetSummary(10 + i, np.array([i + 1, 2, 0, 7])) for i in range(len(factors))]
    write_bank(
        root, name="small", base=BaseRecord("some/base", tokenizer_hash="t" * 8),
        summaries=Summaries.from_list(tuple(factors), parts, tokenizer_hash="t" * 8),
        records=[AdapterRecord(name, task=name, family="f") for name in factors],
    )  # fmt: skip
    return root


@pytest.fixture
def factors() -> dict[str, dict]:
    """Adapters that have one A, each a B of its own; one column is zero."""
    common = random_factors(0)
    found = {
        name: {module: (A, random_factors(i)[module][1]) for module, (A, _) in common.items()}
        for i, name in enumerate(NAMES, 1)
    }
    found["b"][Q][1][:, 1] = 0
    return found


@pytest.fixture
def root(tmp_path, factors) -> Path:
    return make(tmp_path / "bank", factors)


@pytest.fixture
def small(root) -> Path:
    moved = quantize(root)
    assert (moved.adapters, len(moved.shards)) == (len(NAMES), 1)
    return root


def shard_of(root: Path) -> Path:
    (path,) = (root / "shards").iterdir()
    return path


def test_columns_are_rounded_to_half_a_step():
    B = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32) * [1, 10, 1e-4, 1, 3]
    B[:, 3] = 0
    codes, scale = quantize_columns(B.astype(np.float32))
    assert codes.dtype == np.int8
    assert codes.shape == (5, 200)
    assert np.abs(codes).max(axis=1).tolist() == [127, 127, 127, 0, 127]
    assert (np.abs(codes.T * scale - B) <= 0.5001 * scale).all()


@pytest.mark.parametrize("lazy", [False, True])
def test_readers_get_float32_near_the_originals_with_one_a(small, factors, lazy):
    bank = AdapterBank.open(small)
    adapters = {name: bank.lazy(name) if lazy else bank[name] for name in bank}
    for name, adapter in adapters.items():
        assert set(adapter.modules) == set(factors[name])
        for module, (A, B) in factors[name].items():
            pair = adapter.modules[module]
            assert np.array_equal(pair.A, A)
            assert pair.A is adapters["a"].modules[module].A
            assert pair.B.dtype == np.float32
            assert pair.B.flags.c_contiguous
            assert (np.abs(pair.B - B) <= 0.5001 * np.abs(B).max(axis=0) / 127).all()
            assert pair.scaling == 2.0
    assert {record.rank for record in bank.records.values()} == {3}


def test_the_file_is_a_quarter_and_says_what_it_is(root, factors):
    before = sum(record.bytes for record in AdapterBank.open(root).records.values())
    quantize(root)
    bank = AdapterBank.open(root)
    tensors = load_file(shard_of(root))
    assert tensors[f"{Q}.lora_B"].dtype == np.int8
    assert tensors[f"{Q}.lora_B"].shape == (len(NAMES), 3, 12)
    assert tensors[f"{Q}.lora_A"].shape == (3, 10)
    assert sum(record.bytes for record in bank.records.values()) < before / 4
    content = json.loads((root / "bank.json").read_text())
    assert content["format"] == FORMATS[-1] == 3
    assert [entry["bits"] for entry in content["shards"].values()] == [8]
    assert not list(root.glob("adapters/*/adapter_model.safetensors"))


def test_the_average_of_the_factors_is_the_exact_sum(small):
    bank = AdapterBank.open(small)
    adapters, weights = [bank[name] for name in bank], [0.5, 0.2, 0.2, 0.1]
    assert auto.choose(adapters) == "factor"
    made = combine(adapters, weights, method="factor", rank=3)[0]
    for module, pair in made.items():
        wanted = sum(w * a.modules[module].delta().astype(np.float64) for w, a in zip(weights, adapters, strict=True))
        assert np.allclose(pair.delta(), wanted, atol=1e-5)
    lazily = combine([bank.lazy(name) for name in bank], weights, method="factor", rank=3)[0]
    assert all(np.array_equal(lazily[module].B, pair.B) for module, pair in made.items())


def test_the_check_reads_every_row(small):
    report = check_bank(AdapterBank.open(small))
    assert report.problems == []
    assert any("4 adapters share an initial A (mean cosine 1.00)" in note for note in report.notes)


@pytest.mark.parametrize(("tensor", "said"), [("lora_B", ["a"]), ("scale", ["a"]), ("lora_A", list(NAMES))])
def test_a_changed_byte_is_found(small, tensor, said):
    path = shard_of(small)
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    begin = json.loads(bytes(data[8 : 8 + length]))[f"{K}.{tensor}"]["data_offsets"][0]
    data[8 + length + begin] ^= 1
    path.write_bytes(data)
    bank = AdapterBank.open(small)
    problems = check_bank(bank).problems
    assert sorted({problem.partition(":")[0] for problem in problems}) == said
    with pytest.raises(BankError, match="not what was quantized"):
        bank["a"]


def test_undo_gives_peft_directories_of_the_rounded_numbers(small):
    bank = AdapterBank.open(small)
    rounded = {name: bank[name] for name in bank}
    moved = unstack(small)
    assert moved.adapters == len(NAMES)
    again = AdapterBank.open(small)
    assert again.manifest.shards == {}
    assert check_bank(again).problems == []
    for name, adapter in rounded.items():
        plain = Adapter.from_pretrained(small / "adapters" / name)
        for module, pair in adapter.modules.items():
            assert np.array_equal(plain.modules[module].A, pair.A)
            assert np.array_equal(plain.modules[module].B, pair.B)


def test_it_is_done_once_and_stacking_leaves_it_alone(small):
    before = files(small)
    assert quantize(small).adapters == 0
    assert stack(small).adapters == 0
    assert stack(small, restack=True).adapters == 0
    assert files(small) == before


def test_an_open_bank_is_pickled(small):
    bank = AdapterBank.open(small)
    lazy = bank.lazy("a")
    again = pickle.loads(pickle.dumps(lazy.modules))
    assert np.array_equal(again[Q].B, bank["a"].modules[Q].B)


def test_adapters_without_one_a_are_refused_and_nothing_changes(tmp_path, factors):
    factors["c"][K] = random_factors(9)[K]
    root = make(tmp_path / "bank", factors)
    before = files(root)
    with pytest.raises(BankError, match=r"c: .*k_proj has another A than a.*--freeze-a"):
        quantize(root)
    assert files(root) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.update(format=2), "those of 8 bits are for a bank of format 3"),
        (lambda content: content.update(format=4), "this lorameta reads 1, 2, 3"),
        (lambda content: next(iter(content["shards"].values())).update(bits=4), "bits is 4; it must be 8"),
    ],
)
def test_other_formats_are_refused(small, change, said):
    edit(small, change)
    with pytest.raises(BankError, match=said):
        AdapterBank.open(small)
