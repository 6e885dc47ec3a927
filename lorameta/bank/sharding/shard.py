"""A shard: one safetensors file with the weights of many adapters of the same layout, a row of each tensor an adapter.

``<module>.lora_A`` has the shape (M, r, d_in), ``<module>.lora_B`` (M, r, d_out): B is stored transposed, so that the
rows of neighbouring adapters make one (m r, d) matrix without a copy. Numbers are the bits of the source. The header's
metadata say which adapter is which row; the first tensor starts at a multiple of 4096 bytes. Shards never change:
their names are the beginning of their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lorameta.adapter import peft_format
from lorameta.adapter.lazy import LazyModules
from lorameta.adapter.peft_config import LoraSettings
from lorameta.adapter.peft_format import PREFIX, Halves
from lorameta.bank.names import MAX_ID
from lorameta.bank.records import AdapterRecord
from lorameta.errors import BankError
from lorameta.files import json_text, tensors
from lorameta.files.atomic import flush, sha256_file, write_bytes
from lorameta.files.tensor_file import Entry, TensorFile

FOLDER = "shards"
ALIGNMENT = 4096
#: End of a tensor's name → its axes, the dtypes that it may have (any if empty), and whether it has a row an adapter.
_KINDS: dict[str, tuple[int, tuple[str, ...], bool]] = {"lora_A": (3, (), True), "lora_B": (3, (), True)}
#: The same of 8 bits, see :mod:`lorameta.bank.sharding.quantized`.
_QUANTIZED: dict[str, tuple[int, tuple[str, ...], bool]] = {
    "lora_A": (2, ("F32",), False),
    "lora_B": (3, ("I8",), True),
    "scale": (2, ("F32",), True),
}
#: Name of a tensor → its dtype and the shape of one row.
RowLayout = tuple[tuple[str, str, tuple[int, int]], ...]


class Shard:
    """An open shard: its :class:`TensorFile` as `file`, and as `ids` the adapters in the order of their rows.

    `quantized` tells whether it is of 8 bits; `common` is where its A's are kept then.

    Parameters
    ----------
    path : Path
        The file.
    bytes : int
        The size that ``bank.json`` gives it.

    Raises
    ------
    BankError
        It is missing, damaged, or no shard.
    """

    def __init__(self, path: Path, bytes: int) -> None:
        self.file = TensorFile(path)
        if self.file.size != bytes:
            raise BankError(f"{path} has {self.file.size} bytes, {bytes} by bank.json; get the bank again")
        try:
            content = json_text.decode(self.file.metadata["lorameta"])
            known, ids = content["format"] in (1, 2), content["ids"]
        except (KeyError, TypeError, ValueError):
            raise BankError(f"{path} is no shard: its header does not name its adapters; get the bank again") from None
        if not known or not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise BankError(f"{path} is a shard of another version; upgrade lorameta, or get the bank again")
        self.ids: tuple[str, ...] = tuple(ids)
        self.quantized = content["format"] == 2
        self.common: dict[str, Any] = {}
        kinds = _QUANTIZED if self.quantized else _KINDS
        for name, entry in self.file.entries.items():
            kind = kinds.get(name.rpartition(".")[2])
            if kind is None:
                raise BankError(f"{path} is no shard: it has a tensor {name}; get the bank again")
            axes, dtypes, rows = kind
            if len(entry.shape) != axes or (rows and entry.shape[0] != len(ids)):
                raise BankError(f"{path} is no shard: its tensors do not have {len(ids)} rows each; get the bank again")
            if dtypes and entry.dtype not in dtypes:
                raise BankError(f"{path} is no shard: {name} has dtype {entry.dtype}; get the bank again")
        if self.quantized:
            for name, entry in self.file.entries.items():
                if name.endswith(".lora_B"):
                    scale = self.file.entries.get(f"{name[:-7]}.scale")
                    if scale is None or scale.shape != entry.shape[:2]:
                        raise BankError(f"{path} is no shard: {name} has no scale per column; get the bank again")

    def halves(self, settings: LoraSettings, problems: list[str]) -> dict[str, Halves]:
        """Return the modules of an adapter in this shard, held against its configuration."""
        shapes = {
            _peft_name(name): _row_shape(name, entry)
            for name, entry in self.file.entries.items()
            if not name.endswith(".scale")
        }
        found = peft_format.match_halves(shapes, settings, problems)
        return {
            module: Halves(f"{module}.lora_A", f"{module}.lora_B", one.rank, one.d_out, one.d_in, one.scaling)
            for module, one in found.items()
        }


def row_problem(shard: Shard, record: AdapterRecord) -> str | None:
    """Return why a shard does not hold the adapter of a record where that says; None if it does."""
    if record.row is None or not 0 <= record.row < len(shard.ids):
        return f"{record.shard} has no row {record.row}, only {len(shard.ids)}; get the bank again"
    if shard.ids[record.row] != record.id:
        return f"{record.shard} has {shard.ids[record.row]!r} in row {record.row}; get the bank again"
    return None


def row_layout(modules: LazyModules) -> RowLayout:
    """Return what decides which adapters can be in one shard: names, dtypes and shapes of the tensors, sorted."""
    found = []
    for module, one in modules.halves.items():
        for half, source, size in (("A", one.A, one.d_in), ("B", one.B, one.d_out)):
            code = modules.file.entries[source].dtype
            found.append((f"{module}.lora_{half}", "F32" if code == "F64" else code, (one.rank, size)))
    return tuple(sorted(found))


def row_bytes(layout: RowLayout) -> int:
    """Return the size of one adapter in a shard."""
    return sum(rank * size * tensors.KINDS[code].itemsize for _, code, (rank, size) in layout)


def shard_header(layout: RowLayout, ids: Sequence[str], rows: int | None = None) -> tuple[bytes, dict[str, int]]:
    """Return the first bytes of a shard of these adapters and its layout, as :func:`lorameta.files.tensors.layout`."""
    metadata = {"lorameta": json.dumps({"format": 1, "ids": list(ids)}, separators=(",", ":"))}
    entries = {name: (code, (len(ids) if rows is None else rows, *shape)) for name, code, shape in layout}
    return tensors.layout(entries, metadata, alignment=ALIGNMENT)


def capacity(layout: RowLayout, shard_bytes: int) -> int:
    """Return how many adapters surely fit into a shard of that size, at least one."""
    header, _ = shard_header(layout, (), rows=10**12)
    named = MAX_ID + len('\\"\\",')
    return max(1, (shard_bytes - len(header) - ALIGNMENT) // (row_bytes(layout) + named))


def row_digest(modules: LazyModules, before: str = "") -> str:
    """Return the SHA-256 of an adapter's bytes as a shard holds them, wherever they lie; of a text before them, too."""
    digest = hashlib.sha256(before.encode())
    for _, _, bits in modules.rows():
        digest.update(bits.data)
    return digest.hexdigest()


def write_shard(
    path: Path,
    ids: Sequence[str],
    layout: RowLayout,
    adapters: Iterable[LazyModules],
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[dict[str, Any], list[str]]:
    """Write a new file, a tensor of one adapter in memory at a time.

    Parameters
    ----------
    path : Path
        Not there yet.
    ids : sequence of str
        Of the adapters, in the order of the rows.
    layout : RowLayout
        Of every one of them.
    adapters : iterable of LazyModules
        In the order of `ids`.
    progress : callable
        Told the number of bytes, each time that some were written.

    Returns
    -------
    entry : dict
        ``sha256`` and ``bytes``, as in the manifest's ``shards``.
    digests : list of str
        SHA-256 of each row.
    """
    header, starts = shard_header(layout, ids)
    digests = []
    with path.open("xb") as file:
        file.write(header)
        file.truncate(starts[""])
        for row, modules in enumerate(adapters):
            digest = hashlib.sha256()
            for name, code, bits in modules.rows():
                if problem := tensors.not_finite(tensors.widen(bits, code)):
                    raise BankError(f"{ids[row]}: {name} {problem}")
                digest.update(bits.data)
                file.seek(starts[name] + row * bits.nbytes)
                file.write(bits.data)
                progress(bits.nbytes)
            digests.append(digest.hexdigest())
    flush(path)
    return {"sha256": sha256_file(path), "bytes": starts[""]}, digests


def write_peft(path: Path, modules: LazyModules, progress: Callable[[int], object] = lambda count: None) -> str:
    """Write an adapter's weights as PEFT does, bits unchanged, tensors in the order of their names.

    Returns
    -------
    str
        SHA-256 of the file.
    """
    tensors_of: dict[str, tuple[str, tuple[str, tuple[int, ...]]]] = {}  # name → source, (dtype, shape)
    for module, one in modules.halves.items():
        for half, source, shape in (("A", one.A, (one.rank, one.d_in)), ("B", one.B, (one.d_out, one.rank))):
            tensors_of[_peft_name(f"{module}.lora_{half}")] = source, (modules.file.entries[source].dtype, shape)
    if modules.row is not None and modules.shard is None:  # of 8 bits: what it stands for, in float32
        data = tensors.to_bytes(
            {_peft_name(f"{m}.lora_{half}"): getattr(pair, half) for m, pair in modules.items() for half in "AB"}
        )
        write_bytes(path, data)
        flush(path)
        progress(len(data))
        return hashlib.sha256(data).hexdigest()
    header, _ = tensors.layout({name: entry for name, (_, entry) in tensors_of.items()})
    digest = hashlib.sha256(header)
    with path.open("xb") as file:
        file.write(header)
        for name, (source, _) in sorted(tensors_of.items()):
            bits = modules.file.bits(source, modules.row)
            turned = modules.row is not None and name.endswith(".lora_B.weight")
            data = (bits.T if turned else bits).tobytes()
            digest.update(data)
            file.write(data)
            progress(len(data))
    flush(path)
    return digest.hexdigest()


def _peft_name(name: str) -> str:
    return f"{PREFIX}{name}.weight"


def _row_shape(name: str, entry: Entry) -> tuple[int, ...]:
    """Return the shape that a row has in a PEFT file."""
    shape = entry.shape[-2:]
    return shape[::-1] if name.endswith(".lora_B") else shape
