"""Files of tensors: bytes equal to those of safetensors, rounding equal to that of torch, lies in headers refused."""

from __future__ import annotations

import struct

import numpy as np

from lorameta.files import tensors as tensor_files
from tests.peft_helpers import random_factors, tensors_of


def test_lying_headers_are_refused():
    def file(header: str, data: bytes) -> bytes:
        return struct.pack("<Q", len(header)) + header.encode() + data

    one = '"dtype":"F32","shape":[1],"data_offsets"'
    lies = [
        file(f'{{"a":{{{one}:[0,4]}},"b":{{{one}:[0,4]}}}}', b"\0" * 4),  # overlap
        file(f'{{"a":{{{one}:[4,8]}}}}', b"\0" * 8),  # hole
        file('{"a":{"dtype":"F32","shape":[9999999999,9999999999],"data_offsets":[0,4]}}', b"\0" * 4),
        file(f'{{"a":{{{one}:[0,400000000]}}}}', b"\0" * 4),
        file("[]", b""),
        file("[" * 50_000, b""),
        struct.pack("<Q", 1 << 62) + b"{}",
    ]
    for data in lies:
        problems: list[str] = []
        assert tensor_files.from_bytes(data, problems) == {}
        assert len(problems) == 1
    problems = []
    assert (
        tensor_files.from_bytes(file('{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}', b"\0" * 8), problems)
        == {}
    )
    assert "dtype I64" in problems[0]


def test_bfloat16_rounds_as_torch_does():
    import torch
    from safetensors.torch import load

    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20_000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = np.concatenate([values[np.abs(values) < 3e38], np.float32([0, -0.0, 1.00390625, 1.01171875, 1e-40])])
    stored = load(tensor_files.to_bytes({"x": values}, dtype="bfloat16"))["x"]
    assert stored.dtype == torch.bfloat16
    assert torch.equal(stored, torch.from_numpy(values).bfloat16())


def test_tensor_file_is_that_of_safetensors():
    from safetensors.numpy import load, save

    arrays = tensors_of(random_factors(0))
    data = tensor_files.to_bytes(dict(reversed(arrays.items())))
    assert data == save(arrays, metadata={"format": "pt"})
    for name, array in load(data).items():
        np.testing.assert_array_equal(array, arrays[name])
