"""`AdapterReader`: find and read the adapters of an open bank, in their directories or in shards, also while they move.

`lorameta bank stack` moves weights while others read. Who holds an older ``bank.json`` then misses a file; it looks
into the present one, and if that names the same adapter in another place, goes on there.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lorameta.adapter import peft_format
from lorameta.adapter.lazy import LazyModules
from lorameta.adapter.lora import LoraPair
from lorameta.adapter.peft_config import LoraSettings
from lorameta.adapter.peft_format import CONFIG, WEIGHTS, Halves, PeftAdapter
from lorameta.bank.manifest import MANIFEST, base_problem, disagreements, facts_of, inside, read_manifest
from lorameta.bank.records import AdapterRecord, Manifest
from lorameta.bank.sharding.quantized import QuantizedModules
from lorameta.bank.sharding.shard import Shard, row_digest, row_problem
from lorameta.errors import BankError
from lorameta.files import tensors
from lorameta.files.links import is_file, reason
from lorameta.files.tensor_file import TensorFile


class AdapterReader:
    """The adapters of one bank; shared by its views. Several threads may read. A pickled one opens its files again.

    Parameters
    ----------
    root : Path
        The bank's directory.
    manifest : Manifest
        Its ``bank.json`` when it was opened.
    """

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self._root, self._manifest = root, manifest
        self._records = {record.id: record for record in manifest.adapters}
        self._now = manifest  # what bank.json said when it was last read, and a mark to know that one by
        self._records_now = self._records
        self._mark: tuple[int, int, int] | None = None
        self._shards: dict[str, Shard] = {}
        self._halves: dict[tuple[str, str], dict[str, Halves]] = {}
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Callable[..., AdapterReader], tuple[Path, Manifest]]:
        return AdapterReader, (self._root, self._manifest)

    def read(self, id: str, *, lazy: bool = False) -> tuple[PeftAdapter | None, list[str]]:
        """Read an adapter and verify it.

        Parameters
        ----------
        id : str
            Of the manifest.
        lazy : bool
            Leave the numbers in the file, neither hashed nor looked at; `modules` are :class:`LazyModules` then.

        Returns
        -------
        found : PeftAdapter or None
            None where nothing of it could be read.
        problems : list of str
            All that is wrong with it.

        Raises
        ------
        LorametaError
            It is on the Hub, and could not be fetched.
        """
        record = self._records[id]
        if record.hub:
            from lorameta.bank.hub.fetch import fetch

            fetch(self._root, [record])
        place = self._place(record)
        found, problems = self._read(place or record, lazy)
        while problems and self._look_again():
            place = self._place(record)
            found, problems = self._read(place or record, lazy)
        if problems and place is None:
            how = "another adapter" if id in self._records_now else "no adapter"
            problems.append(f"bank.json names {how} of this id by now; open the bank again")
        return found, problems

    def close(self) -> None:
        """Close the shards; they are opened again when they are needed."""
        with self._lock:
            shards, self._shards = self._shards, {}
        for shard in shards.values():
            shard.file.close()

    def _place(self, record: AdapterRecord) -> AdapterRecord | None:
        """Return the record of the same adapter in the present ``bank.json``; None if it is not there any more."""
        new = self._records_now.get(record.id)
        if new is record:
            return record
        if new is None or new.config_sha256 != record.config_sha256:
            return None
        if new.sha256 == record.sha256 or (record.row_sha256 and new.row_sha256 == record.row_sha256):
            return new
        if record.shard and not new.shard:  # perhaps the same numbers, rewritten with other names or dtypes
            with contextlib.suppress(BankError):
                path = inside(self._root, f"{new.path}/{WEIGHTS}")
                with TensorFile(path) as file:
                    if row_digest(LazyModules(file, _halves_of(file, None, []))) == record.row_sha256:
                        return new
        return None

    def _look_again(self) -> bool:
        """Read ``bank.json`` again; False if it is the one that was read last, or cannot be read."""
        with self._lock:
            try:
                state = (self._root / MANIFEST).stat()
                mark = (state.st_ino, state.st_mtime_ns, state.st_size)
                if mark == self._mark:
                    return False
                self._mark, self._now = mark, read_manifest(self._root)
            except (OSError, BankError):
                return False
            self._records_now = {record.id: record for record in self._now.adapters}
            return True

    def _read(self, record: AdapterRecord, lazy: bool) -> tuple[PeftAdapter | None, list[str]]:
        problems: list[str] = []
        try:
            directory = inside(self._root, record.path)
            for file in (CONFIG,) if record.shard else (CONFIG, WEIGHTS):
                if (directory / file).is_symlink():
                    inside(self._root, f"{record.path}/{file}")
            if lazy or record.shard:
                found = self._read_lazily(record, directory, problems)
                if not lazy and isinstance(found.modules, LazyModules):
                    found = replace(found, modules=_load(record, found.modules, problems))
            else:
                found = peft_format.read_directory(directory, problems)
        except BankError as error:
            return None, [*problems, str(error)]
        except OSError as error:
            return None, [*problems, f"{record.path} cannot be read: {reason(error)}"]
        if found.settings is None:
            return None, problems
        if not problems:
            problems += disagreements(record, facts_of(found, found.settings))
        if problem := base_problem(self._root, directory, self._manifest.base, found.settings):
            problems.append(problem)
        return found, problems

    def _read_lazily(self, record: AdapterRecord, directory: Path, problems: list[str]) -> PeftAdapter:
        """Return the configuration, and where the numbers are; that they are as many as they should be is all that is
        sure."""
        settings, digest = peft_format.read_config(directory, problems)
        modules: LazyModules | dict[str, LoraPair] = {}
        size = record.bytes
        if settings is not None and record.shard:
            shard = self._shard(record.shard)
            if problem := row_problem(shard, record):
                raise BankError(problem)
            if shard.file.size > tensors.MAX_BYTES * len(shard.ids):
                raise BankError(f"{record.shard} has rows of more than the {tensors.MAX_BYTES} bytes of an adapter")
            halves = self._halves.get((record.shard, digest))
            if halves is None:
                wrong: list[str] = []
                halves = shard.halves(settings, wrong)
                problems += [f"{record.shard}: {note}" for note in wrong]
                if not wrong:
                    self._halves[record.shard, digest] = halves
            if shard.quantized and record.row is not None:
                modules = QuantizedModules(shard, halves, record.row)
            else:
                modules = LazyModules(shard.file, halves, record.row)
        elif settings is not None:
            path = directory / WEIGHTS
            notes: list[str] = []
            if not is_file(path):
                notes.append(peft_format.missing_weights(directory))
            elif (size := path.stat().st_size) > tensors.MAX_BYTES:
                notes.append(f"has {size} bytes, more than the {tensors.MAX_BYTES} that an adapter can have")
            else:
                file = TensorFile(path)
                size = file.size
                modules = LazyModules(file, _halves_of(file, settings, notes))
            problems += [f"{WEIGHTS} {note}" for note in notes]
        return PeftAdapter(modules, settings, record.sha256, digest, size)

    def _shard(self, name: str) -> Shard:
        with self._lock:
            if name not in self._shards:
                entry = self._now.shards.get(name) or self._manifest.shards[name]
                self._shards[name] = Shard(inside(self._root, name), entry["bytes"])
            return self._shards[name]


def _halves_of(file: TensorFile, settings: LoraSettings | None, problems: list[str]) -> dict[str, Halves]:
    for name, entry in file.entries.items():
        if entry.dtype not in tensors.KINDS:
            problems.append(f"{name} has dtype {entry.dtype}; save it as float32 or bfloat16")
    return peft_format.match_halves({name: entry.shape for name, entry in file.entries.items()}, settings, problems)


def _load(record: AdapterRecord, modules: LazyModules, problems: list[str]) -> dict[str, LoraPair]:
    """Return all pairs of a row, once its hash and its numbers are found right."""
    notes: list[str] = []
    if isinstance(modules, QuantizedModules):
        pairs = modules.verified(record.row_sha256, notes)
        problems += [f"{record.shard}, row {record.row}: {note}" for note in notes]
        return pairs
    digest, arrays = hashlib.sha256(), {}
    for name, code, bits in modules.rows():
        digest.update(bits.data)
        arrays[name] = tensors.widen(tensors.transposed(bits) if name.endswith(".lora_B") else bits, code)
        if problem := tensors.not_finite(arrays[name]):
            notes.append(f"{name} {problem}")
    if digest.hexdigest() != record.row_sha256:
        notes.insert(0, "is not what was stacked (SHA-256); get the bank again")
    problems += [f"{record.shard}, row {record.row}: {note}" for note in notes]
    return {module: LoraPair(arrays[one.A], arrays[one.B], one.scaling) for module, one in modules.halves.items()}
