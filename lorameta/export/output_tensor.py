"""A copy of a base's GGUF file with an output tensor of its own: what an update of a tied head needs in llama.cpp.

A GGUF file without ``output.weight`` uses its embedding as the head, and llama.cpp applies an adapter to tensors by
name, so that there is nothing for an update of such a head to be added to. The copy holds everything that the file
does, bit by bit, and the head with the update in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.base_model.convert import open_gguf
from lorameta.base_model.locate import gguf_file
from lorameta.errors import BankError, LorametaError, UsageError
from lorameta.files.atomic import fresh_file

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


def base_file(base: str, given: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """Return the base's GGUF file: the one that is given, or that of the package that the base comes from.

    Raises
    ------
    UsageError
        There is none, so that an update of a tied head cannot be stored.
    """
    found = gguf_file(base) if given is None else given
    if found is None:
        raise UsageError(
            "the adapter changes the head, which the base ties to its embedding, so that llama.cpp has no tensor to "
            "add it to. Name the base's GGUF file with --base-gguf: a copy with a head of its own is then written "
            "beside the adapter. Or export it merged, or fit the last block alone (lorameta fit --where block)"
        )
    return found


def write_with_output(
    base_gguf: str | os.PathLike[str], target: Path, pair: LoraPair, architecture: str, dtype: str = "f16"
) -> Path:
    """Copy a base's GGUF file and give it a head: its embedding, dequantized, plus an update.

    Parameters
    ----------
    base_gguf : path
        The base as llama.cpp runs it, quantized or not.
    target : Path
        The new file; an older one is replaced when the new one is whole.
    pair : LoraPair
        The update of the head.
    architecture : str
        llama.cpp's name of the base's.
    dtype : {"f16", "f32"}
        Of the head.

    Raises
    ------
    BankError
        The file is no GGUF file of this base, or has a head of its own already.
    LorametaError
        The file cannot be written, or numbers leave the range of `dtype`.
    """
    import gguf
    from gguf.quants import dequantize

    source = Path(base_gguf).expanduser()
    if target.resolve() == source.resolve():
        raise UsageError(f"{target} is the base itself; name another file")
    reader = open_gguf(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    field = reader.get_field(gguf.Keys.General.ARCHITECTURE)
    found = None if field is None else field.contents()
    if found != architecture:
        raise BankError(f"{source} holds a model of the architecture {found}; the adapter is for {architecture}")
    if EMBEDDING not in tensors:
        raise BankError(f"{source} has no {EMBEDDING}, so it is no whole model")
    if OUTPUT in tensors:
        raise BankError(f"{source} has a head of its own, while the base ties it; name the file of the base as it is")
    embedding = dequantize(tensors[EMBEDDING].data, tensors[EMBEDDING].tensor_type).reshape(-1, pair.shape[1])
    if embedding.shape != pair.shape:
        raise BankError(f"the embedding in {source} has the shape {embedding.shape}; the adapter changes {pair.shape}")
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    head = (embedding + pair.delta()).astype({"f16": np.float16, "f32": np.float32}[dtype])
    if not np.isfinite(head).all():
        raise LorametaError(f"the head has numbers too large for {dtype}; store it as f32")
    with fresh_file(target) as fresh:
        _copy(gguf, reader, fresh, architecture, head, kind)
        written = {tensor.name: tensor.data for tensor in gguf.GGUFReader(fresh).tensors}
        same = all(name in written and np.array_equal(written[name], tensor.data) for name, tensor in tensors.items())
        if not (same and np.array_equal(written[OUTPUT], head)):
            raise LorametaError("the GGUF file does not read back as it was written; look to the disk, and try again")
    return target


def _copy(gguf: Any, reader: Any, path: Path, architecture: str, head: np.ndarray, kind: Any) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    for field in reader.fields.values():
        if field.name == gguf.Keys.General.ARCHITECTURE or field.name.startswith("GGUF."):
            continue  # the writer's own
        array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1] if array else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.add_tensor(OUTPUT, head, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
