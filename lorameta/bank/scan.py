"""An adapter's weights read once, a tensor at a time: hash, finite numbers, norms and a sketch from the same bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lorameta.adapter import peft_format
from lorameta.adapter.peft_config import LoraSettings
from lorameta.adapter.shared_init import looked_at, sketch
from lorameta.errors import BankError
from lorameta.files import tensors
from lorameta.files.links import is_file
from lorameta.files.tensor_file import Entry, TensorFile

#: Module → (rank, d_out, d_in, scaling).
Layout = Mapping[str, tuple[int, int, int, float]]


@dataclass
class Measures:
    """What is measured of an adapter, half by half.

    Attributes
    ----------
    layout : dict
        Module → (rank, d_out, d_in, scaling).
    norms : dict of str to float
        Frobenius norm of each module's update, ‖s B A‖² = s² ⟨BᵀB, AAᵀ⟩ (:meth:`lorameta.adapter.lora.LoraPair.norm`),
        summed in float32.
    sketches : dict of str to numpy.ndarray
        Of the A's of some modules, see :func:`lorameta.adapter.shared_init.sketch`.
    finite : bool
        False if a number is NaN or infinite, or too large to be squared in float32: then it must be looked at again.
    """

    layout: Layout
    norms: dict[str, float] = field(default_factory=dict)
    sketches: dict[str, np.ndarray] = field(default_factory=dict)
    finite: bool = True
    _waiting: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._chosen = frozenset(looked_at(list(self.layout)))

    def add(self, module: str, half: str, rows: np.ndarray) -> None:
        """Add one factor as (r, d): `half` "A" as it is, "B" transposed; float32, not kept.

        Overflow is noted in `finite`; callers switch numpy's warning of it off, once for many factors.
        """
        gram = np.dot(rows, rows.T)  # unlike @, lets other threads run meanwhile
        if not math.isfinite(gram.sum()):
            self.finite = False
            return
        if half == "A" and module in self._chosen:
            self.sketches[module] = sketch(np.ascontiguousarray(rows))
        other = self._waiting.pop(module, None)
        if other is None:
            self._waiting[module] = gram
            return
        squared = float(np.vdot(gram, other))
        self.finite &= squared < math.inf
        self.norms[module] = abs(self.layout[module][3]) * math.sqrt(max(squared, 0.0))

    @property
    def norm(self) -> float:
        """Frobenius norm of the whole update."""
        return math.sqrt(sum(norm**2 for norm in self.norms.values()))


@dataclass(frozen=True)
class Scan:
    """A PEFT directory that is sound, measured."""

    settings: LoraSettings
    measures: Measures
    sha256: str
    config_sha256: str
    bytes: int

    @property
    def modules(self) -> Layout:
        """What :func:`lorameta.bank.manifest.facts_of` asks for."""
        return self.measures.layout


def scan_directory(directory: Path, problems: list[str]) -> Scan | None:
    """Read a PEFT directory once; None, with everything that is wrong in `problems`, if it is not sound.

    The messages are those of :func:`lorameta.adapter.peft_format.read_directory`, which reads it again in that case.
    """
    notes: list[str] = []
    settings, config_sha256 = peft_format.read_config(directory, notes)
    path = directory / peft_format.WEIGHTS
    scan = None
    try:
        if settings is not None and not notes and is_file(path) and path.stat().st_size <= tensors.MAX_BYTES:
            with TensorFile(path) as file:
                entries, size = file.entries, file.size
            layout = layout_of(entries, settings, notes)
            if not notes:
                measures = Measures(layout)
                digest = _stream(path, entries, measures)
                if measures.finite:
                    scan = Scan(settings, measures, digest, config_sha256, size)
    except (BankError, OSError):
        scan = None
    if scan is None:
        found = peft_format.read_directory(directory, problems)
        if not problems and found.settings is not None:  # sound after all: its numbers are finite, but huge
            scan = Scan(found.settings, _measured(found), found.sha256, found.config_sha256, found.bytes)
    return scan


def layout_of(entries: Mapping[str, Entry], settings: LoraSettings, problems: list[str]) -> Layout:
    """Return the modules that a weights file holds, by its header alone; what is wrong with its names and shapes is
    noted."""
    problems += [f"{name} has dtype {e.dtype}" for name, e in entries.items() if e.dtype not in tensors.KINDS]
    halves = peft_format.match_halves({name: entry.shape for name, entry in entries.items()}, settings, problems)
    return {module: (one.rank, one.d_out, one.d_in, one.scaling) for module, one in halves.items()}


class Widener:
    """Stored numbers as float32 in a buffer that is used again and again, so that it stays in the processor's cache."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, dtype=np.float32)

    def __call__(self, data: np.ndarray, code: str) -> np.ndarray:
        """`data`, an array of ``tensors.KINDS[code]``, as float32 of the same shape; valid until the next call."""
        if code == "F32":
            return data
        if self._buffer.size < data.size:
            self._buffer = np.empty(data.size, dtype=np.float32)
        wide = self._buffer[: data.size].reshape(data.shape)
        if code == "BF16":
            np.left_shift(data, np.uint32(16), out=wide.view(np.uint32), dtype=np.uint32)
        else:
            with np.errstate(over="ignore"):
                np.copyto(wide, data, casting="unsafe")
        return wide


def _stream(path: Path, entries: Mapping[str, Entry], measures: Measures) -> str:
    """Read the file from its first byte to its last; returns its SHA-256."""
    in_order = sorted(entries.items(), key=lambda item: item[1].start)
    buffer = memoryview(bytearray(max((entry.stop - entry.start for entry in entries.values()), default=0)))
    digest, widen = hashlib.sha256(), Widener()
    with path.open("rb", buffering=0) as file, np.errstate(over="ignore", invalid="ignore"):
        digest.update(exactly(file, memoryview(bytearray(in_order[0][1].start if in_order else 0))))
        for name, entry in in_order:
            data = exactly(file, buffer[: entry.stop - entry.start])
            digest.update(data)
            numbers = np.frombuffer(data, dtype=tensors.KINDS[entry.dtype]).reshape(entry.shape)
            if (key := peft_format.parse_key(name)) is not None:
                factor = widen(numbers, entry.dtype)
                measures.add(*key, factor if key[1] == "A" else factor.T)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def exactly(file: object, buffer: memoryview) -> memoryview:
    """Fill the whole buffer, or say that the file ended."""
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])  # type: ignore[attr-defined]
        if not count:
            raise BankError("the file is truncated")
        done += count
    return buffer


def _measured(found: peft_format.PeftAdapter) -> Measures:
    measures = Measures({m: (pair.rank, *pair.shape, pair.scaling) for m, pair in found.modules.items()})
    measures.norms = {module: pair.norm() for module, pair in found.modules.items()}
    measures.sketches = {module: sketch(found.modules[module].A) for module in looked_at(list(found.modules))}
    return measures
