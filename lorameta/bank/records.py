"""What `bank.json` holds, as dataclasses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

#: Of a bank whose adapters are PEFT directories all; of one that has shards, or weights that are on the Hub; and of one
#: that has shards of 8 bits.
FORMATS = (1, 2, 3)


@dataclass(frozen=True)
class BaseRecord:
    """The base model of a bank.

    Attributes
    ----------
    model : str
        A directory inside the bank, a Hub id, or the absolute path of a directory that only this machine has.
    revision : str, optional
        Of a Hub id.
    tokenizer_hash : str, optional
        Of the tokenizer that the token counts were made with.
    name, also
        What the adapters' configurations call a base that is a directory, and more names for a base.
    sha256 : dict of str to str
        Hash of each file of a base that is a directory; empty for a Hub id.
    """

    model: str
    revision: str | None = None
    tokenizer_hash: str | None = None
    name: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdapterRecord:
    """One adapter of a bank: what it was trained for, from what, and which bytes it is.

    Attributes
    ----------
    id : str
        Letters, digits, ``.``, ``_`` and ``-``; unique without regard to case.
    task, family, description : str
        The task's name, the group of related tasks it belongs to, and its instruction.
    source : dict
        Of the rows: ``repo``, ``commit``, ``path``, ``name``.
    licence : str
        Of the rows, as an SPDX id where there is one.
    rows : dict of str to int
        Number of rows by part: ``train``, ``validation``, ``test``.
    training, scores : dict
        How it was trained, and what base and adapter scored; free.
    rank, alpha, rslora
        As in the adapter's configuration. Filled in by :func:`write_bank`, like all that follow.
    targets : tuple of str
        Last parts of the names of the changed modules, e.g. ``q_proj``.
    path : str
        Its PEFT directory inside the bank, ``adapters/<id>`` by default.
    sha256, config_sha256 : str
        Of ``adapter_model.safetensors`` and ``adapter_config.json``.
    bytes : int
        Size of ``adapter_model.safetensors``.
    shard : str
        The shard that its weights were moved into, ``shards/<16 hex digits>.safetensors``; "" if they are in the
        directory. `sha256` and `bytes` go on describing the file that was moved.
    row : int, optional
        Its row in each tensor of the shard.
    row_sha256 : str
        Over the bytes of these rows, tensors in the order of their names.
    hub : dict
        Where its directory comes from, if it need not be there yet: ``repo``, ``revision`` (a commit), ``file`` (its
        weights; the configuration lies beside them), ``licence`` of the weights if it is known. `targets` are then
        those that the configuration names.
    """

    id: str
    task: str
    family: str
    description: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    rank: int | None = None
    alpha: float | None = None
    rslora: bool | None = None
    targets: tuple[str, ...] = ()
    path: str = ""
    sha256: str = ""
    config_sha256: str = ""
    bytes: int = 0
    shard: str = ""
    row: int | None = None
    row_sha256: str = ""
    hub: dict[str, str] = field(default_factory=dict)

    def provenance(self) -> dict[str, Any]:
        """Return what a card must say of an adapter that was mixed in: task, family, licence, source of its rows,
        hash."""
        found = {key: getattr(self, key) for key in ("task", "family", "licence", "source", "sha256")}
        return {**found, "hub": self.hub} if self.hub else found


@dataclass(frozen=True)
class Manifest:
    """The content of ``bank.json``; `shards` maps the file of each shard to its ``sha256`` and ``bytes``.

    A shard of 8 bits has ``bits`` as well, see :mod:`lorameta.bank.sharding.quantized`. For `prompt_template` see
    :mod:`lorameta.base_model.templates`.
    """

    name: str
    base: BaseRecord
    summaries: dict[str, Any]
    adapters: tuple[AdapterRecord, ...]
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: tuple[dict[str, str], ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    shards: dict[str, dict[str, Any]] = field(default_factory=dict)
    prompt_template: str = ""

    def shards_of(self, records: Iterable[AdapterRecord]) -> dict[str, dict[str, Any]]:
        """Return the shards that some record is in."""
        used = {record.shard for record in records}
        return {file: entry for file, entry in self.shards.items() if file in used}

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with the format version; adapters and those left out sorted by id.

        What is said of shards and of the Hub is left out where it is nothing: format 1, which every lorameta reads.
        """
        content = asdict(self)
        for record in content["adapters"]:
            if not record["shard"]:
                del record["shard"], record["row"], record["row_sha256"]
            if not record["hub"]:
                del record["hub"]
        for name in ("shards", "prompt_template"):
            if not content[name]:
                del content[name]
        if not self.base.also:
            del content["base"]["also"]
        for name in ("adapters", "left_out"):
            content[name] = sorted(content[name], key=lambda entry: entry["id"])
        newer = bool(self.shards) or any(record.hub for record in self.adapters)
        small = any("bits" in entry for entry in self.shards.values())
        return {"format": FORMATS[2 if small else newer], **content}
