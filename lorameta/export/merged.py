"""A whole model directory with the adapter added to the base's weights: W + scaling · B A, a block of rows at a time.

The sum is taken in float64 and then rounded. In bfloat16, with its 8 bits, small updates are rounded away in part:
how much was lost is measured on the way and handed back.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.base_model.weights import (
    CONFIG,
    INDEX,
    WEIGHTS,
    Weights,
    as_stored,
    check_fit,
    find_base,
    read_config,
    tied,
)
from lorameta.errors import BankError, LorametaError, UsageError, violations
from lorameta.export.result import Exported
from lorameta.export.rounding import Rounding
from lorameta.files import tensors
from lorameta.files.atomic import fresh_directory
from lorameta.files.links import user_path
from lorameta.files.tensor_file import Entry

DTYPES = {"f32": ("F32", "float32"), "f16": ("F16", "float16"), "bf16": ("BF16", "bfloat16")}
CARD = "README.md"
ADAPTER_CARD = "ADAPTER.md"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "spiece.model")

#: Numbers that are worked on at once; a few times their float64 bytes is what the merge needs in memory.
BLOCK = 1 << 21
#: Files beside the weights that belong to the base as it was, or hold its weights in other formats.
NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".index.json")


def export_merged(
    adapter: Adapter | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    shard_size: int | None = None,
) -> Exported:
    """Write the base with the adapter merged into its weights, as a directory that transformers loads.

    Parameters
    ----------
    adapter : Adapter or path of a PEFT directory
    output : path
        A directory that is new, empty, or was written here before.
    base : path or Hub id, optional
        The base, by default the one that the adapter names; its weights must be on this machine, as safetensors.
    dtype : {"f32", "f16", "bf16"}, optional
        What every weight is stored as; by default what it is in the base.
    shard_size : int, optional
        Bytes of a file of weights; by default the files of the base. One tensor is never divided.

    Returns
    -------
    Exported
        ``details``: ``files`` of weights, ``worst_module`` and ``worst_rounding``, ``unchanged``, the share of the
        changed layers' weights that the update did not move by one bit, and ``untied``, whether the head became a
        weight of its own, because the adapter changes it and the base ties it to the embedding.

    Raises
    ------
    UsageError
        An unknown dtype, a base that is not here, an `output` that holds other files.
    BankError
        The base is not whole or has no tokenizer, or the adapter does not fit it: all layers are named.
    LorametaError
        There is not enough room on the disk, numbers leave the range of `dtype`, the directory cannot be written.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r} for merged; there are {', '.join(DTYPES)}")
    if shard_size is not None and shard_size < 1:
        raise UsageError(f"shard_size {shard_size} must be at least 1 byte")
    card = _adapter_card(adapter)
    adapter = adapter if isinstance(adapter, Adapter) else Adapter.from_pretrained(adapter)
    adapter.warn_if_zero(adapter.name or "the adapter")
    directory = find_base(adapter, base, weights=True)
    config = read_config(directory)
    target = user_path(output).resolve()
    if target == directory:
        raise UsageError(f"{target} is the base itself; name another directory")
    with Weights(directory) as weights:
        check_fit(adapter, config, weights, directory, untie=True)
        modules = as_stored(adapter.modules, config, weights)
        untied = any(tied(module, config) for module in adapter.modules)
        config = config | ({"tie_word_embeddings": False} if untied else {})
        copies = _others(directory)
        shards = _shards(weights, dtype, shard_size)
        sizes = {name: sum(_bytes(weights.entry(tensor), dtype) for tensor in shard) for name, shard in shards.items()}
        names = {*shards, *copies, CONFIG, CARD}
        names |= ({ADAPTER_CARD} if card else set()) | ({INDEX} if list(shards) != [WEIGHTS] else set())
        _require_room(target, sum(sizes.values()) + sum((directory / name).stat().st_size for name in copies))
        rounding = Rounding()
        with fresh_directory(target, names) as fresh:
            for name, shard in shards.items():
                write_shard(fresh / name, shard, weights, modules, dtype, rounding)
            if rounding.broken:
                raise LorametaError(violations(rounding.broken, "the merged model is no good:", "Use another --dtype."))
            if INDEX in names:
                (fresh / INDEX).write_bytes(_index(shards, sum(sizes.values())))
            for name in copies:
                shutil.copyfile(directory / name, fresh / name)
            (fresh / CONFIG).write_bytes(_config(directory, config, dtype, untied))
            named = adapter.base_model if base is None else str(base)
            (fresh / CARD).write_bytes(_card(named, adapter, rounding, dtype, bool(card)).encode())
            if card:
                (fresh / ADAPTER_CARD).write_bytes(card)
    size = sum((target / name).stat().st_size for name in names)
    return Exported(
        target, "merged", named, dtype or "base", len(adapter.modules), size, rounding.total(),
        {"files": list(shards), "untied": untied, **rounding.as_dict()},
    )  # fmt: skip


def _code(entry: Entry, dtype: str | None) -> str:
    """Return what a tensor is stored as: numbers in `dtype`, everything else as it is."""
    return DTYPES[dtype][0] if dtype is not None and entry.dtype in tensors.KINDS else entry.dtype


def _bytes(entry: Entry, dtype: str | None) -> int:
    if (code := _code(entry, dtype)) == entry.dtype:
        return entry.stop - entry.start
    return (entry.stop - entry.start) // tensors.KINDS[entry.dtype].itemsize * tensors.KINDS[code].itemsize


def _shards(weights: Weights, dtype: str | None, shard_size: int | None) -> dict[str, list[str]]:
    """File -> its tensors."""
    if shard_size is None:
        return {name: [tensor for tensor, home in weights.home.items() if home == name] for name in weights.files}
    groups: list[list[str]] = [[]]
    left = shard_size
    for tensor in weights.home:
        size = _bytes(weights.entry(tensor), dtype)
        if size > left and groups[-1]:
            groups.append([])
            left = shard_size
        groups[-1].append(tensor)
        left -= size
    if len(groups) == 1:
        return {WEIGHTS: groups[0]}
    return {f"model-{i:05}-of-{len(groups):05}.safetensors": group for i, group in enumerate(groups, 1)}


def write_shard(
    path: Path, shard: Iterable[str], weights: Weights, modules: Mapping[str, LoraPair], dtype: str | None,
    rounding: Rounding,
) -> None:  # fmt: skip
    """Write one file of the merged model."""
    entries = {tensor: weights.entry(tensor) for tensor in shard}
    # wide dtypes first: so every tensor starts at a multiple of the size of its numbers
    order = sorted(entries, key=lambda tensor: -_width(_code(entries[tensor], dtype)))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in order:
        entry, stop = entries[tensor], offset + _bytes(entries[tensor], dtype)
        header[tensor] = {
            "dtype": _code(entry, dtype), "shape": list(entry.shape), "data_offsets": [offset, stop],
        }  # fmt: skip
        offset = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in order:
            module = tensor.removesuffix(".weight")
            pair = modules[module] if tensor.endswith(".weight") and module in modules else None
            with weights.files[weights.home[tensor]].path.open("rb") as file:
                for block in _blocks(file, tensor, entries[tensor], _code(entries[tensor], dtype), pair, rounding):
                    out.write(block)


def _blocks(
    file: BinaryIO, tensor: str, entry: Entry, code: str, pair: LoraPair | None, rounding: Rounding
) -> Iterator[bytes]:
    """Yield the new bytes of a tensor: copied, converted, or with the update added."""
    file.seek(entry.start)
    kind = tensors.KINDS.get(entry.dtype)
    if kind is None or (pair is None and code == entry.dtype):
        for start in range(entry.start, entry.stop, 8 * BLOCK):
            yield read_all(file, min(8 * BLOCK, entry.stop - start))
        return
    width = 1 if pair is None else pair.shape[1]
    rows = (entry.stop - entry.start) // (width * kind.itemsize)
    step = max(1, BLOCK // width)
    right = None if pair is None else pair.A.astype(np.float64)
    for first in range(0, rows, step):
        last = min(rows, first + step)
        old = np.frombuffer(read_all(file, (last - first) * width * kind.itemsize), dtype=kind)
        before = tensors.widen(old, entry.dtype).reshape(-1, width)
        if pair is None or right is None:
            new = tensors.narrow(before, code)
            stored = tensors.widen(new, code)
        else:
            update = (pair.scaling * pair.B[first:last].astype(np.float64)) @ right
            exact = before + update
            new = tensors.narrow(exact, code)
            stored = tensors.widen(new, code)
            rounding.add(tensor.removesuffix(".weight"), exact, update, stored, before)
        whole = bool(np.isfinite(before).all())
        if not (whole and np.isfinite(stored).all()):
            what = f"overflows {code}" if whole else "holds NaN or infinite values in the base"
            if not rounding.broken or not rounding.broken[-1].startswith(f"{tensor} "):
                rounding.broken.append(f"{tensor} {what}")
        yield new.tobytes()


def read_all(file: BinaryIO, count: int) -> bytes:
    """Read `count` bytes; an error if the file ends before."""
    data = file.read(count)
    if len(data) != count:
        raise BankError(f"{file.name} ends too early; it was changed meanwhile, or get it again")
    return data


def _width(code: str) -> int:
    """Return the bytes of one number; 1 for dtypes that are copied as they are and need no memory."""
    sizes = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}
    return tensors.KINDS[code].itemsize if code in tensors.KINDS else sizes.get(code, 1)


def _others(directory: Path) -> list[str]:
    """Return what is copied: the base's own files beside its weights."""
    names = sorted(
        path.name
        for path in directory.iterdir()
        if path.is_file()
        and not path.name.startswith((".", "adapter_"))
        and not path.name.endswith(NOT_COPIED)
        and path.name not in (CONFIG, CARD, ADAPTER_CARD)
    )
    if not set(names) & set(TOKENIZERS):
        raise BankError(
            f"the base in {directory} has no tokenizer ({', '.join(TOKENIZERS[:3])}, ...), without which the merged "
            "model could not be used; put the tokenizer's files beside its config.json"
        )
    return names


def _require_room(target: Path, needed: int) -> None:
    place = next(parent for parent in target.parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise LorametaError(
            f"the merged model needs {needed / 1e9:.2f} GB and the disk of {place} has {free / 1e9:.2f} GB free; "
            "make room, write elsewhere, or export to gguf, which needs the adapter alone"
        )


def _index(shards: Mapping[str, list[str]], size: int) -> bytes:
    home = {tensor: name for name, shard in shards.items() for tensor in shard}
    content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(home.items()))}
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _config(directory: Path, config: dict[str, Any], dtype: str | None, untied: bool) -> bytes:
    """``config.json`` of the base, byte for byte if the dtype and the tying of its head stay."""
    if dtype is None and not untied:
        return (directory / CONFIG).read_bytes()
    key = "dtype" if "dtype" in config else "torch_dtype"
    changed = {} if dtype is None else {key: DTYPES[dtype][1]}
    return (json.dumps(config | changed, indent=2, ensure_ascii=False) + "\n").encode()


def _adapter_card(adapter: Adapter | str | os.PathLike[str]) -> bytes:
    if isinstance(adapter, Adapter):
        from lorameta.adapter.card import card

        return card(adapter).encode()
    path = user_path(adapter) / CARD
    return path.read_bytes() if path.is_file() else b""


def _card(base: str, adapter: Adapter, rounding: Rounding, dtype: str | None, has_card: bool) -> str:
    quoted = json.dumps(base, ensure_ascii=False)
    facts = rounding.as_dict()
    kept = f"stored as {DTYPES[dtype][1]}" if dtype else "stored in the dtypes of the base"
    lines = [
        *["---", f"base_model: {quoted}", "library_name: transformers", "tags:", "- merge", "- lorameta", "---", ""],
        *[
            "# Merged model",
            "",
            f"The base model {quoted} with a LoRA adapter merged into its weights by lorameta.",
            "",
        ],
        f"- layers changed: {len(adapter.modules)}, by updates of rank {adapter.rank} at most; {kept}",
        f"- rounding: {rounding.total():.2e} of the update's norm ({facts['worst_rounding']:.2e} in "
        f"{facts['worst_module']}); {facts['unchanged']:.1%} of the changed layers' weights are those of the base",
        "",
        "The terms of the base apply" + (f"; the adapter's own card is {ADAPTER_CARD}." if has_card else "."),
        "",
    ]
    return "\n".join(lines)
