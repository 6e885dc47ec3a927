"""`check` names every failure, all at once, from one reading of each file."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorameta.adapter import Adapter, peft_format
from lorameta.bank import AdapterBank, BaseRecord, check_bank, write_bank
from lorameta.bank.duplicates import difference
from lorameta.bank.scan import Measures, scan_directory
from lorameta.bank.sharding.stack import stack
from lorameta.combiner import auto
from lorameta.files.tensors import to_bytes
from tests.bank.test_bank import edit, parts_of, record_of, rehash, summaries_of
from tests.peft_helpers import DOWN, Q, dense, random_factors, tensors_of, write_peft

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def make(root: Path, ids, **config) -> Path:
    write_bank(root, **parts_of(root, ids=ids, **config))
    return root


def changed_config(**changes):
    def change(directory: Path) -> None:
        content = json.loads((directory / CONFIG).read_text())
        (directory / CONFIG).write_text(json.dumps({**content, **changes}))

    return change


def changed_tensors(change_them):
    def change(directory: Path) -> None:
        tensors = tensors_of(random_factors(5))
        change_them(tensors)
        save_file(tensors, directory / WEIGHTS)

    return change


def content(data: bytes):
    return lambda directory: (directory / WEIGHTS).write_bytes(data)


def cut(directory: Path) -> None:
    path = directory / WEIGHTS
    path.write_bytes(path.read_bytes()[:-9])


def pickled(directory: Path) -> None:
    (directory / WEIGHTS).unlink()
    (directory / "adapter_model.bin").write_bytes(pickle.dumps({"a": 1}))


def poison(value: float):
    def change(tensors: dict) -> None:
        tensors[f"base_model.model.{Q}.lora_B.weight"][3, 1] = value

    return changed_tensors(change)


def without_half(tensors: dict) -> None:
    del tensors[f"base_model.model.{DOWN}.lora_A.weight"]


def with_magnitude(tensors: dict) -> None:
    tensors[f"base_model.model.{Q}.lora_magnitude_vector.weight"] = np.ones(12, dtype=np.float32)


#: Failure → what does it to an adapter's directory, and what the report must say beside the adapter's id.
FAILURES = {
    "truncation": (cut, "is truncated"),
    "nothing": (content(b""), "is empty"),
    "LFS pointer": (content(b"version https://git-lfs.github.com/spec/v1\nsize 77\n"), "git-LFS pointer"),
    "HTML": (content(b"<!DOCTYPE html><html>"), "HTML page"),
    "pickle": (pickled, "adapter_model.bin is a pickle"),
    "pickle in disguise": (content(pickle.dumps({})), "is a pickle under another name"),
    "no weights": (lambda directory: (directory / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "NaN": (poison(np.nan), "NaN or infinite"),
    "Inf": (poison(-np.inf), "NaN or infinite"),
    "missing half": (changed_tensors(without_half), f"{DOWN} has no lora_A"),
    "DoRA tensor": (changed_tensors(with_magnitude), "DoRA magnitude"),
    "DoRA": (changed_config(use_dora=True), "use_dora: DoRA rescales"),
    "lora_bias": (changed_config(lora_bias=True), "lora_bias: the bias of lora_B"),
    "modules_to_save": (changed_config(modules_to_save=["lm_head"]), "modules_to_save: whole modules were trained"),
    "another base": (changed_config(base_model_name_or_path="other/base"), "trained on 'other/base'"),
    "another rank": (changed_config(r=5), "but rank 5 by the configuration"),
    "other numbers": (changed_tensors(lambda tensors: None), "sha256 is"),
    "no configuration": (lambda directory: (directory / CONFIG).unlink(), f"{CONFIG} is missing"),
    "link out of the bank": (
        lambda directory: (
            (directory / WEIGHTS).replace(directory.parents[2] / "w")
            and (directory / WEIGHTS).symlink_to(directory.parents[2] / "w")
        ),
        "link that leads out of the bank",
    ),
}


def test_every_failure_is_named_and_all_of_them_at_once(tmp_path):
    names = {failure: f"a{i:02d}" for i, failure in enumerate(FAILURES)}
    root = make(tmp_path / "bank", [*names.values(), "sound", "sound2"])
    for failure, (do, _) in FAILURES.items():
        do(root / "adapters" / names[failure])
    report = AdapterBank.open(root).check()
    for failure, (_, said) in FAILURES.items():
        mine = [problem for problem in report.problems if problem.startswith(f"{names[failure]}: ")]
        assert any(said in problem for problem in mine), (failure, mine)
    assert not any(problem.startswith("sound") for problem in report.problems)
    assert report.adapters == len(FAILURES) + 2


def test_another_revision_is_named(tmp_path):
    parts = parts_of(tmp_path, base_model_name_or_path="o/b", revision="old")
    shutil.rmtree(tmp_path / "base")
    write_bank(tmp_path, **{**parts, "base": BaseRecord("o/b", revision="old")})
    edit(tmp_path, lambda manifest: manifest["base"].update(revision="new"))
    problems = AdapterBank.open(tmp_path).check().problems
    assert sum("revision old, the bank is of new" in problem for problem in problems) == 4


def test_numbers_that_are_not_finite_are_found_where_only_the_hash_is_right(tmp_path):
    """NaN that was there when the manifest was written by hand: the hash cannot tell."""
    root = make(tmp_path / "bank", ["a", "b", "c"])
    poison(np.nan)(root / "adapters" / "b")
    rehash(root, "b")
    problems = AdapterBank.open(root).check().problems
    assert [problem[:3] for problem in problems] == ["b: "]
    assert "has 1 values that are NaN or infinite" in problems[0]


def test_huge_finite_numbers_are_measured_all_the_same(tmp_path):
    factors = random_factors(0)
    factors[Q] = (factors[Q][0] * np.float32(1e25), factors[Q][1])
    scan = scan_directory(write_peft(tmp_path / "huge", factors), [])
    expected = np.sqrt(sum((update**2).sum() for update in dense(factors).values()))
    assert scan.measures.norm == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("infix", ["", ".default"])
def test_norms_and_hash_are_those_of_the_dense_update(tmp_path, dtype, infix):
    factors = random_factors(3)
    if dtype == "bfloat16":
        directory = write_peft(tmp_path / "x", factors)
        (directory / WEIGHTS).write_bytes(to_bytes(tensors_of(factors, infix), dtype=dtype))
    else:
        tensors = {name: array.astype(dtype) for name, array in tensors_of(factors, infix).items()}
        directory = write_peft(tmp_path / "x", factors, tensors=tensors)
    stored = Adapter.from_pretrained(directory)
    scan = scan_directory(directory, [])
    for module, update in dense({m: (pair.A, pair.B) for m, pair in stored.modules.items()}).items():
        assert scan.measures.norms[module] == pytest.approx(np.linalg.norm(update), rel=1e-5)
    assert scan.sha256 == hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    assert scan.bytes == (directory / WEIGHTS).stat().st_size


def test_each_weights_file_is_read_once(tmp_path, monkeypatch):
    root = make(tmp_path / "bank", ["a", "b", "c"])
    monkeypatch.setattr(peft_format, "read_directory", None)  # the second reading, for messages
    assert AdapterBank.open(root).check().ok


def test_memory_does_not_grow_with_the_bank(tmp_path):
    shapes = {f"model.layers.{i}.self_attn.q_proj": (256, 256) for i in range(8)}

    def peak(count: int) -> int:
        root = tmp_path / f"bank{count}"
        parts = parts_of(root, ids=[f"a{i:02d}" for i in range(count)])
        for i, record in enumerate(parts["records"]):
            factors = random_factors(i, rank=16, shapes=shapes)
            write_peft(root / "adapters" / record.id, factors, base_model_name_or_path="our-base")
        write_bank(root, **parts)
        bank = AdapterBank.open(root)
        _ = bank.summaries
        tracemalloc.start()
        assert check_bank(bank, workers=1).ok
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    small, large = peak(4), peak(24)
    adapter = 8 * 2 * 16 * 256 * 4
    assert large - small < 2 * adapter  # of 20 more; one worker, since the scheduler decides what several hold at once


# Tokenizers


def test_another_tokenizer_is_named(tmp_path):
    parts = parts_of(tmp_path / "hub", ids=["a", "b"], base_model_name_or_path="o/b")
    shutil.rmtree(tmp_path / "hub" / "base")
    write_bank(tmp_path / "hub", **{**parts, "base": BaseRecord("o/b")})
    root = tmp_path / "hub"
    (root / "tokenizer").mkdir()
    for text, said in (
        ('{"model": {"type": "WordLevel", "vocab": {"b": 0}}}', "is another one than that of the summaries"),
        ("{", "is no tokenizer"),
    ):
        (root / "tokenizer" / "tokenizer.json").write_text(text)
        (problem,) = AdapterBank.open(root).check().problems
        assert said in problem


# Duplicates and common initial values


def test_the_same_update_in_other_bytes_is_noticed(tmp_path):
    root = make(tmp_path / "bank", ["a", "b", "c", "d", "e"])
    factors = random_factors(0)
    rotated = {}
    for seed, (module, (A, B)) in enumerate(factors.items()):
        M = np.random.default_rng(seed).normal(size=(3, 3)) + 3 * np.eye(3)
        rotated[module] = ((M @ A).astype(np.float32), (B @ np.linalg.inv(M)).astype(np.float32))
    negated = {module: (A, -B) for module, (A, B) in factors.items()}  # the same norms, but another update
    write_peft(root / "adapters" / "b", rotated, base_model_name_or_path="our-base")
    write_peft(root / "adapters" / "c", negated, base_model_name_or_path="our-base")
    (root / "adapters" / "d" / WEIGHTS).write_bytes(to_bytes(tensors_of(factors), dtype="bfloat16"))
    for name in "bcd":
        rehash(root, name)
    warnings = AdapterBank.open(root).check().warnings
    pairs = sorted(warning.split(":")[0] for warning in warnings if "same update in different files" in warning)
    assert {frozenset(pair.split(", ")) for pair in pairs} == {frozenset(p) for p in ("ab", "ad", "bd")}


def test_difference_against_the_dense_one(tmp_path):
    one, other = (write_peft(tmp_path / str(seed), random_factors(seed)) for seed in (1, 2))
    x, y = dense(random_factors(1)), dense(random_factors(2))
    expected = np.sqrt(sum(((x[m] - y[m]) ** 2).sum() for m in x) / sum((x[m] ** 2).sum() for m in x))
    read = Adapter.from_pretrained
    assert difference(read(one), read(other)) == pytest.approx(expected, rel=1e-6)
    assert difference(read(one), read(one)) < 1e-7


def test_adapters_that_share_an_initial_A_are_noted(tmp_path):
    shapes = {f"model.layers.{i}.self_attn.q_proj": (32, 64) for i in range(6)}
    start = random_factors(0, rank=8, shapes=shapes)
    ids = [f"a{i}" for i in range(7)]
    root = tmp_path / "bank"
    parts = parts_of(root, ids=ids)
    for i, name in enumerate(ids):
        own = random_factors(i + 1, rank=8, shapes=shapes)
        if i < 5:
            own = {module: (start[module][0] + own[module][0], own[module][1]) for module in shapes}
        write_peft(root / "adapters" / name, own, base_model_name_or_path="our-base")
    write_bank(root, **parts)
    report = AdapterBank.open(root).check()
    assert report.ok
    assert report.notes == ["5 adapters share an initial A (mean cosine 0.50)"]
    few = AdapterBank.open(root).select(["a0", "a4", "a5", "a6"]).check()
    assert few.notes[0].startswith("a0, a4 share an initial A (mean cosine 0.")


def test_likeness_means_the_same_to_the_combiner():
    from lorameta.adapter import shared_init as likeness

    assert likeness.ALIKE == auto.ALIKE


def test_what_was_fitted_to_other_adapters_is_warned_of(tiny_bank, tmp_path, lorameta):
    root = shutil.copytree(tiny_bank, tmp_path / "bank")
    lorameta("bank", "fit", root, "-d", "js", "--width", 2)
    (root / "leave_one_out.json").write_text(json.dumps({"bank": AdapterBank.open(root).content_hash}))
    assert AdapterBank.open(root).check().warnings == []
    assert [one["valid"] for one in lorameta("bank", "info", root, "--json").json["fitted"]] == [True, True]
    lorameta("bank", "remove", root, "opposite")
    warnings = "\n".join(AdapterBank.open(root).check().warnings)
    assert "operators/neural-js.safetensors: it was made for other adapters" in warnings
    assert "leave_one_out.json: it was made for other adapters" in warnings
    refused = lorameta("explain", tmp_path / "x.jsonl", "--bank", root, "--operator", "neural", "--distance", "js")
    assert refused.code == 2
    facts = lorameta("bank", "info", root, "--json").json["fitted"]
    assert [(one["name"], one["valid"]) for one in facts] == [("leave-one-out record", False), ("neural (js)", False)][
        ::-1
    ]


# Shards


@pytest.fixture
def stacked(tmp_path) -> Path:
    root = make(tmp_path / "bank", ["a", "b", "c", "d"])
    before = AdapterBank.open(root).check()
    stack(root)
    assert before.ok
    return root


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x01
    path.write_bytes(bytes(data))


def test_a_stacked_bank_is_checked_as_the_directories_were(stacked):
    report = AdapterBank.open(stacked).check()
    assert report.problems == report.warnings == []
    assert report.adapters == 4
    assert report.bytes > 4 * AdapterBank.open(stacked).records["a"].bytes * 0.9


def test_norms_of_rows_are_those_of_the_adapters(stacked, monkeypatch):
    seen: dict[str, float] = {}
    from lorameta.bank import check as module

    monkeypatch.setattr(module, "compare_norms", lambda norms, report: seen.update(norms))
    AdapterBank.open(stacked).check()
    for seed, name in enumerate("abcd"):
        expected = np.sqrt(sum((update**2).sum() for update in dense(random_factors(seed)).values()))
        assert seen[name] == pytest.approx(expected, rel=1e-5)


def test_a_flipped_bit_in_a_shard_is_blamed_on_its_row(stacked):
    (path,) = (stacked / "shards").iterdir()
    flip(path, path.stat().st_size - 1)  # the last row of the last tensor
    (problem,) = AdapterBank.open(stacked).check().problems
    assert problem.startswith("d: row ")
    assert "is not what bank.json was written with (SHA-256)" in problem


def test_a_cut_or_missing_shard_is_named(stacked):
    (path,) = (stacked / "shards").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    (problem,) = AdapterBank.open(stacked).check().problems
    assert "truncated" in problem or "bytes" in problem
    path.unlink()
    (problem,) = AdapterBank.open(stacked).check().problems
    assert "missing" in problem


def test_threads_are_as_many_as_asked_for(tmp_path, monkeypatch):
    root = make(tmp_path / "bank", [f"a{i}" for i in range(8)])
    names, add = set(), Measures.add

    def spy(self, *args):
        names.add(threading.current_thread().name)
        add(self, *args)

    monkeypatch.setattr(Measures, "add", spy)
    check_bank(AdapterBank.open(root), workers=1)
    assert len(names) == 1


def test_records_of_a_stacked_bank_can_be_written_again(stacked):
    """`write_bank` with the records of an open bank, as a recipe does that adds to what it made before."""
    bank = AdapterBank.open(stacked)
    manifest = bank.manifest
    write_bank(
        stacked, name="again", base=BaseRecord("base", name="our-base"), summaries=summaries_of("abcd"),
        records=bank.records.values(), encoders=manifest.encoders,
    )  # fmt: skip
    now = AdapterBank.open(stacked)
    assert (now.name, now.records, now.manifest.shards) == ("again", bank.records, manifest.shards)
    assert now.check().ok
    with pytest.raises(Exception, match="is missing"):
        write_bank(
            stacked, name="again", base=BaseRecord("base", name="our-base"), summaries=summaries_of("abcd"),
            records=[record_of(name) for name in "abcd"],
        )  # fmt: skip
