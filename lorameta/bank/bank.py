"""`AdapterBank`: an open bank, whose adapters are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorameta.adapter import Adapter
from lorameta.adapter.peft_format import PeftAdapter
from lorameta.bank.hub.fetch import fetch, is_away
from lorameta.bank.locate import DEFAULT, locate
from lorameta.bank.manifest import inside, read_manifest
from lorameta.bank.names import require_known
from lorameta.bank.reader import AdapterReader
from lorameta.bank.records import AdapterRecord, Manifest
from lorameta.base_model.templates import ChatTemplate, about_rows, rendered
from lorameta.data import Example
from lorameta.encoder.storage import MAX_BYTES as MAX_SUMMARIES
from lorameta.encoder.summary import Summaries
from lorameta.errors import BankError, UsageError, violations
from lorameta.files.atomic import sha256, sha256_file
from lorameta.files.links import is_directory, is_file, reason, resolved

if TYPE_CHECKING:
    from lorameta.bank.check import CheckReport

#: Bytes of adapters up to which a mixture reads all of them at once and verifies their hashes. More are read a module
#: at a time and checked for size and finite numbers; ``lorameta bank check`` verifies them all.
VERIFY_BYTES = 1 << 28


class AdapterBank:
    """Adapters of one base model, with the summaries of the datasets they were trained on.

    Open one with :meth:`open`. Iteration yields ids, ``bank[id]`` reads an adapter, :meth:`without` and
    :meth:`select` give views that share what was read.

    Attributes
    ----------
    path : Path
        The bank's directory, absolute.
    manifest : Manifest
        The content of ``bank.json``, of the whole bank also in a view.
    ids : tuple of str
    records : dict of str to AdapterRecord
    """

    def __init__(self, path: Path, manifest: Manifest, *, _whole: AdapterBank | None = None, _ids: Iterable[str] = ()):
        self.path = path
        self.manifest = manifest
        by_id = {record.id: record for record in manifest.adapters}
        self.ids: tuple[str, ...] = tuple(by_id) if _whole is None else tuple(_ids)
        self.records: dict[str, AdapterRecord] = {name: by_id[name] for name in self.ids}
        self._whole = _whole
        self._reader: AdapterReader = AdapterReader(path, manifest) if _whole is None else _whole._reader
        self._kept: dict[str, Adapter] | None = None  # what was read, in a view that keeps it

    @classmethod
    def open(cls, path_or_name: str | PathLike[str] = DEFAULT) -> AdapterBank:
        """Open a bank; only ``bank.json`` is read, weights are read and verified when they are asked for.

        Parameters
        ----------
        path_or_name : path or str
            A directory with a ``bank.json`` (or that file); the name of one of lorameta's own; or a preset
            or a bank on the Hub whose index is on this machine, see :func:`lorameta.bank.locate.locate`.

        Raises
        ------
        BankError
            There is no bank, or its manifest is damaged; all violations.
        """
        path = resolved(locate(path_or_name))
        return cls(path, read_manifest(path))

    @property
    def name(self) -> str:
        """The bank's name."""
        return self.manifest.name

    @property
    def base_model(self) -> str:
        """What ``AutoModelForCausalLM.from_pretrained`` takes: an absolute directory, or a Hub id."""
        base = self.manifest.base
        if not base.sha256:
            return base.model
        directory = inside(self.path, base.model)
        if not is_directory(directory):
            raise BankError(f"the bank {self.name} lacks its base model, {directory}; get the bank again")
        return str(directory)

    @property
    def base_revision(self) -> str | None:
        """Revision of a base on the Hub; None for a directory."""
        return None if self.manifest.base.sha256 else self.manifest.base.revision

    @property
    def prompt_template(self) -> str:
        """What stands around the input of a row, with ``{input}`` in it; "" if inputs are whole prompts."""
        return self.manifest.prompt_template

    def prompts(self, examples: Iterable[Example]) -> list[Example]:
        """Return rows with the prompts that the adapters of this bank were trained with."""
        return rendered(self.prompt_template, examples, lambda: self.chat_template)

    def about_rows(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Return what a report keeps of the rows' prompts, see :func:`lorameta.base_model.templates.about_rows`."""
        return about_rows(self.prompt_template, examples, lambda: self.chat_template)

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The chat template of the base, for rows that are conversations; None if the bank has none of it."""
        return ChatTemplate.of_directory(self.tokenizer_path)

    @property
    def tokenizer_path(self) -> Path | None:
        """The directory of the base's ``tokenizer.json``: the base, or ``tokenizer`` in the bank; None without one."""
        candidates = [self.path / self.manifest.base.model] if self.manifest.base.sha256 else []
        candidates.append(self.path / "tokenizer")
        return next((path for path in candidates if is_file(path / "tokenizer.json")), None)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over ids and the hashes of their files, sorted: another one as soon as any adapter is another."""
        found = ((name, self.records[name]) for name in sorted(self.ids))
        lines = "".join(f"{name} {record.sha256} {record.config_sha256}\n" for name, record in found)
        return sha256(lines.encode())

    @cached_property
    def summaries(self) -> Summaries:
        """The summaries of the datasets behind :attr:`ids`, in that order; read when first used.

        Raises
        ------
        BankError
            The file is missing, damaged or not that of this bank.
        """
        if self._whole is not None:
            whole = self._whole.summaries
            return whole if self.ids == whole.ids else whole.select(self.ids)
        entry = self.manifest.summaries
        path = inside(self.path, entry["file"])
        try:
            digest = sha256_file(path) if is_file(path) and path.stat().st_size <= MAX_SUMMARIES else ""
        except OSError as error:
            raise BankError(f"{path} cannot be read: {reason(error)}") from None
        summaries = Summaries.load(path)  # a damaged file is explained better by this than by its hash
        if digest != entry["sha256"]:
            raise BankError(f"{path} is not the file that bank.json was written with (SHA-256); get the bank again")
        if summaries.ids != self.ids:
            if set(summaries.ids) != set(self.ids):
                raise BankError(f"{path} holds other adapters than bank.json; get the bank again")
            summaries = summaries.select(self.ids)
        return summaries

    def __getitem__(self, id: str) -> Adapter:
        """Read an adapter and verify it: hash, keys, shapes, finite numbers, base.

        Raises
        ------
        UsageError
            There is no such id.
        BankError
            The adapter is damaged; everything that is wrong.
        """
        if self._kept is None:
            return self._sound(id)
        if id not in self._kept:
            self._kept[id] = self._sound(id)
        return self._kept[id]

    def keeping(self) -> AdapterBank:
        """Return a view of the same adapters that reads and verifies each once and keeps it in memory as long as the
        view lives; where all of them are more than `VERIFY_BYTES`, it keeps none. Of such a view, itself."""
        if self._kept is not None:
            return self
        view = self.select(self.ids)
        if sum(record.bytes for record in view.records.values()) <= VERIFY_BYTES:
            view._kept = {}
        return view

    @property
    def away(self) -> tuple[str, ...]:
        """The ids of the adapters that are on the Hub only; they are fetched when they are first read."""
        return tuple(name for name in self.ids if is_away(self.path, self.records[name]))

    def fetch(self, ids: Iterable[str] | None = None) -> int:
        """Get the adapters that are on the Hub only, or those of some ids, several at once; returns the bytes.

        Raises
        ------
        UsageError
            There is no such id.
        LorametaError
            Some could not be had: all of them, with the reasons.
        """
        names = self.ids if ids is None else tuple(ids)
        require_known(self.name, names, self.records)
        return fetch(self.path, [self.records[name] for name in names])

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id: object) -> bool:
        return id in self.records

    def __repr__(self) -> str:
        return f"<AdapterBank {self.name!r}: {len(self)} adapters of {self.manifest.base.model} in {self.path}>"

    def select(self, ids: Iterable[str]) -> AdapterBank:
        """Return a view of some adapters, in the order given; UsageError on unknown or repeated ids."""
        ids = tuple(ids)
        require_known(self.name, ids, self.records)
        if repeated := sorted({name for name in ids if ids.count(name) > 1}):
            raise UsageError(f"{', '.join(repeated)} is selected twice")
        whole = self if self._whole is None else self._whole
        return AdapterBank(self.path, self.manifest, _whole=whole, _ids=ids)

    def without(self, ids: str | Iterable[str]) -> AdapterBank:
        """Return a view that lacks some adapters (one id, or several); UsageError on unknown ids."""
        left_out = {ids} if isinstance(ids, str) else set(ids)
        require_known(self.name, left_out, self.records)
        return self.select(name for name in self.ids if name not in left_out)

    def check(self) -> CheckReport:
        """Read and verify every file of the bank; see :func:`lorameta.bank.check.check_bank`."""
        from lorameta.bank.check import check_bank

        return check_bank(self)

    def inspect(self, id: str, *, lazy: bool = False) -> tuple[Adapter | None, list[str]]:
        """Read an adapter and list what is wrong with it; the adapter is None where nothing of it could be read."""
        require_known(self.name, [id], self.records)
        found, problems = self._reader.read(id, lazy=lazy)
        return (None if found is None else self._adapter(id, found)), problems

    def lazy(self, id: str) -> Adapter:
        """Return an adapter whose numbers stay in their file: ``modules`` reads a pair at each access and keeps none.

        Names, shapes and sizes are checked now; numbers are found finite when they are read, and are not hashed, which
        is what ``bank[id]`` does. ``modules`` is a :class:`lorameta.adapter.lazy.LazyModules`, which tells the layout.

        Raises
        ------
        UsageError
            There is no such id.
        BankError
            The adapter is damaged; everything that is wrong. Reading a pair may raise it too.
        """
        return self._sound(id, lazy=True)

    def _sound(self, id: str, *, lazy: bool = False) -> Adapter:
        adapter, problems = self.inspect(id, lazy=lazy)
        if problems or adapter is None:
            raise BankError(violations(problems, f"the adapter {id!r} of the bank {self.name} cannot be used:"))
        return adapter

    def _adapter(self, id: str, found: PeftAdapter) -> Adapter:
        base = self.manifest.base
        location = str(self.path / base.model) if base.sha256 else base.model
        return Adapter(found.modules, location, self.base_revision, name=id)
