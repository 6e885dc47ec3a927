"""Adapters that are in a bank twice, or that started from one A, are told."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank, write_bank
from lorameta.bank.duplicates import difference
from lorameta.combiner import auto
from lorameta.files.tensors import to_bytes
from tests.bank.parts import WEIGHTS, make_bank, parts_of, rehash
from tests.peft_helpers import dense, random_factors, tensors_of, write_peft


def test_the_same_update_in_other_bytes_is_noticed(tmp_path):
    root = make_bank(tmp_path / "bank", ["a", "b", "c", "d", "e"])
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
