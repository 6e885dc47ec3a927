"""One reading of an adapter's weights: its norms and hash are those of the dense update and of the file."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.bank.scan import scan_directory
from lorameta.files.tensors import to_bytes
from tests.bank.parts import WEIGHTS
from tests.peft_helpers import Q, dense, random_factors, tensors_of, write_peft


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
