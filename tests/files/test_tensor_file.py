"""TensorFile reads what safetensors wrote, a tensor or a row at a time, and names what is wrong with other files."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import threading

import numpy as np
import pytest

from lorameta.errors import BankError, UsageError
from lorameta.files import tensors
from lorameta.files.tensor_file import TensorFile

DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file with a tensor of each dtype, and the tensors as torch has them in float32."""
    import torch
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("file") / "x.safetensors"
    generator = torch.Generator().manual_seed(0)
    held = {
        code: torch.randn(5, 3, 4, generator=generator, dtype=torch.float64).to(getattr(torch, name))
        for code, name in DTYPES.items()
    }
    save_file({**held, "count": torch.arange(3)}, path, metadata={"format": "pt"})
    return path, {code: tensor.to(torch.float32).numpy() for code, tensor in held.items()}


def test_reads_tensors_and_rows_as_torch_means_them(written):
    path, expected = written
    with TensorFile(path) as file:
        assert (file.size, file.metadata) == (path.stat().st_size, {"format": "pt"})
        assert list(file.entries) == sorted([*DTYPES, "count"])
        for code, numbers in expected.items():
            assert file.entries[code].dtype == code
            np.testing.assert_array_equal(file.read(code), numbers, strict=True)
            for row in range(5):
                np.testing.assert_array_equal(file.read(code, row), numbers[row], strict=True)
            seen = tensors.widen(file.raw(code, slice(1, 4)), code)
            np.testing.assert_array_equal(seen, numbers[1:4], strict=True)
            assert not file.raw(code).flags.writeable
            assert file.raw(code).tobytes() == file.bits(code).tobytes()
        assert file.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_reads_no_byte_that_was_not_asked_for(written, monkeypatch):
    path, _ = written
    file = TensorFile(path)
    read, asked = [], os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda fd, buffers, at: read.append((at, len(buffers[0]))) or asked(fd, buffers, at)
    )
    file.read("F32", 2)
    assert read == [(file.entries["F32"].start + 2 * 48, 48)]


def test_views_outlive_the_file_and_can_be_forgotten(written):
    path, expected = written
    file = TensorFile(path)
    view = file.raw("F32")
    file.forget("F32")
    file.forget("BF16", slice(0, 2))
    file.close()
    np.testing.assert_array_equal(view, expected["F32"])
    with pytest.raises(UsageError, match="was closed"):
        file.read("F32")


def test_threads_and_processes_share_it(written):
    path, expected = written
    file = TensorFile(path)
    wrong = []

    def read() -> None:
        for row in list(range(5)) * 40:
            if not (file.read("BF16", row) == expected["BF16"][row]).all() or not file.raw("F16").any():
                wrong.append(row)

    workers = [threading.Thread(target=read) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    again = pickle.loads(pickle.dumps(file))
    np.testing.assert_array_equal(again.read("F32"), expected["F32"])


def test_what_is_not_there_is_named(written):
    path, _ = written
    file = TensorFile(path)
    for call, named in (
        (lambda: file.read("nope"), "has no tensor 'nope'"),
        (lambda: file.read("F32", 5), r"F32 has no row 5; its shape is \(5, 3, 4\)"),
        (lambda: file.read("F32", -1), "has no row -1"),
        (lambda: file.raw("count"), "count has dtype I64"),
    ):
        with pytest.raises(BankError, match=named):
            call()


def header(content: object, tail: bytes = b"") -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + tail


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "is empty"),
        (b"abc", "is truncated"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 99\n", "git-LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\x80\x02}q\x00." * 9, "pickle"),
        (b"\xff" * 600, "not a safetensors file"),
        (header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"\0" * 12), "is truncated"),
        (header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"\0" * 20), "is damaged"),
        (header({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 16]}}, b"\0" * 16), "is damaged"),
        (header({"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 16]}}, b"\0" * 16), "is damaged"),
        (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, b"\0" * 16), "is damaged"),
        (header([1, 2]), "is damaged"),
        (header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}), "is damaged"),
    ],
)
def test_other_files_are_named(tmp_path, data, named):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(BankError, match=named):
        TensorFile(path)


def test_a_missing_file_says_so_to_people_and_code(tmp_path):
    with pytest.raises(BankError, match="is missing") as caught:
        TensorFile(tmp_path / "none")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_header_of_too_many_tensors_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "MAX_TENSORS", 2)
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensors.to_bytes({name: np.zeros(2) for name in "abc"}))
    with pytest.raises(BankError, match="tensors, more than the 2"):
        TensorFile(path)


def test_a_file_that_is_cut_while_it_is_open(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensors.to_bytes({"a": np.ones(1000)}))
    file = TensorFile(path)
    os.truncate(path, 2000)
    with pytest.raises(BankError, match="is truncated"):
        file.read("a")
