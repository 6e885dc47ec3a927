"""The check that a `bank.json` holds just what the dataclasses of :mod:`lorameta.bank.records` say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Any

from lorameta.adapter.peft_config import LARGEST
from lorameta.bank.names import unsafe_ids, unsafe_path
from lorameta.bank.records import FORMATS, AdapterRecord, BaseRecord, Manifest
from lorameta.base_model.templates import template_problem
from lorameta.files.json_text import MAX_NUMBER

_SHA = re.compile(r"[0-9a-f]{64}")
_SHARD = re.compile(r"shards/(?P<begin>[0-9a-f]{16})\.safetensors")


def parse(content: Any, problems: list[str]) -> Manifest | None:
    """Turn the JSON of a ``bank.json`` into a Manifest; None, with every violation in `problems`, if it is none."""
    if not isinstance(content, dict):
        problems.append("is not a JSON object")
        return None
    if content.get("format") not in FORMATS or isinstance(content["format"], bool):
        read = ", ".join(map(str, FORMATS))
        problems.append(f"has format {short(content.get('format'))}; this lorameta reads {read}, upgrade one of them")
        return None
    before = len(problems)
    get = _Checked(content, "", problems)
    name = get("name", _TEXT)
    base = _Checked(get("base", _OBJECT), "base.", problems)
    base_record = BaseRecord(
        model=base("model", _NAME),
        revision=base("revision", _NAME_OR_NONE),
        tokenizer_hash=base("tokenizer_hash", _NAME_OR_NONE),
        name=base("name", _NAME_OR_NONE),
        sha256=base("sha256", _HASHES, default={}),
        also=tuple(base("also", _TEXTS, default=[])),
    )
    problems += [f"base.sha256: {p}" for file in base_record.sha256 for p in unsafe_path(file)]
    if base_record.sha256:
        problems += [f"base.model: {problem}" for problem in unsafe_path(base_record.model)]
    entry = _Checked(get("summaries", _OBJECT), "summaries.", problems)
    summaries = {"file": entry("file", _TEXT), "sha256": entry("sha256", _HASH), "bytes": entry("bytes", _COUNT)}
    problems += [f"summaries.file: {problem}" for problem in unsafe_path(summaries["file"])]
    records = [_parse_record(one, i, problems) for i, one in enumerate(get("adapters", _LIST))]
    problems += unsafe_ids([record.id for record in records])
    shards = _parse_shards(get("shards", _OBJECT, default={}), records, problems)
    if shards and content["format"] == 1:
        problems.append("shards: a bank of format 1 has none")
    if content["format"] < 3 and any("bits" in entry for entry in shards.values()):
        problems.append("shards: those of 8 bits are for a bank of format 3")
    left_out = []
    for i, one in enumerate(get("left_out", _LIST, default=[])):
        entry = _Checked(one, f"left_out[{i}].", problems)
        left_out.append({"id": entry("id", _TEXT), "reason": entry("reason", _TEXT)})
    encoders, recipe = get("encoders", _OBJECTS, default={}), get("recipe", _OBJECT, default={})
    template = get("prompt_template", _TEMPLATE, default="")
    if len(problems) > before:
        return None
    return Manifest(name, base_record, summaries, tuple(records), encoders, tuple(left_out), recipe, shards, template)


Check = tuple[Callable[[Any], bool], str, Any]
_TEXT: Check = (lambda v: isinstance(v, str) and bool(v), "a text", "?")
_ANY_TEXT: Check = (lambda v: isinstance(v, str), "a text", "")
_TEMPLATE: Check = (lambda v: isinstance(v, str) and not template_problem(v), "a text with {input} once", "")
_NAME: Check = (
    lambda v: isinstance(v, str) and bool(v) and v.isprintable() and len(v) <= 4096,
    "a text on one line",
    "?",
)
_NAME_OR_NONE: Check = (lambda v: v is None or _NAME[0](v), "a text on one line, or null", None)
_OBJECT: Check = (lambda v: isinstance(v, dict), "an object", {})
_LIST: Check = (lambda v: isinstance(v, list), "a list", [])
_HASH: Check = (lambda v: isinstance(v, str) and bool(_SHA.fullmatch(v)), "64 hexadecimal digits", "")
_HASHES: Check = (lambda v: isinstance(v, dict) and all(map(_HASH[0], v.values())), "file to SHA-256", {})
_OBJECTS: Check = (lambda v: isinstance(v, dict) and all(map(_OBJECT[0], v.values())), "names to objects", {})
_COUNT: Check = (
    lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 <= v < MAX_NUMBER,
    "a whole number",
    0,
)
_HASH_OR_EMPTY: Check = (lambda v: v == "" or _HASH[0](v), "64 hexadecimal digits", "")
_COUNT_OR_NONE: Check = (lambda v: v is None or _COUNT[0](v), "a whole number or null", None)
_EIGHT: Check = (lambda v: v == 8 and not isinstance(v, bool), "8", 8)
_COUNTS: Check = (lambda v: isinstance(v, dict) and all(map(_COUNT[0], v.values())), "names to whole numbers", {})
_TEXTS: Check = (lambda v: isinstance(v, list) and all(isinstance(t, str) for t in v), "a list of texts", [])
_TEXT_VALUES: Check = (
    lambda v: isinstance(v, dict) and all(isinstance(t, str) and t for t in v.values()),
    "names to texts",
    {},
)
_FLAG: Check = (lambda v: isinstance(v, bool), "true or false", False)
_NUMBER: Check = (
    lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and -LARGEST <= v <= LARGEST,
    f"a number, and {LARGEST} at most",
    0.0,
)
_REQUIRED = object()


class _Checked:
    """Get checked values out of a JSON object; notes what is wrong and goes on with a stand-in."""

    def __init__(self, values: Any, where: str, problems: list[str]) -> None:
        if not isinstance(values, Mapping):
            problems.append(f"{where.rstrip('.')} must be an object")
        self.values = values if isinstance(values, Mapping) else {}
        self.where, self.problems = where, problems

    def __call__(self, key: str, check: Check, default: Any = _REQUIRED) -> Any:
        good, kind, stand_in = check
        if key not in self.values and (default is not _REQUIRED or good(None)):
            return None if default is _REQUIRED else default
        if key not in self.values:
            self.problems.append(f"{self.where}{key} is missing; it must be {kind}")
        elif good(self.values[key]):
            return self.values[key]
        else:
            self.problems.append(f"{self.where}{key} is {short(self.values[key])}; it must be {kind}")
        return stand_in


def _parse_record(content: Any, index: int, problems: list[str]) -> AdapterRecord:
    label = content.get("id") if isinstance(content, dict) else None
    where = f"adapters[{label if isinstance(label, str) else index}]"
    get = _Checked(content, f"{where}.", problems)
    record = AdapterRecord(
        id=get("id", _TEXT),
        task=get("task", _TEXT),
        family=get("family", _ANY_TEXT, default=""),
        description=get("description", _ANY_TEXT, default=""),
        source=get("source", _OBJECT, default={}),
        licence=get("licence", _ANY_TEXT, default=""),
        rows=get("rows", _COUNTS, default={}),
        training=get("training", _OBJECT, default={}),
        scores=get("scores", _OBJECT, default={}),
        rank=get("rank", _COUNT),
        alpha=get("alpha", _NUMBER),
        rslora=get("rslora", _FLAG, default=False),
        targets=tuple(get("targets", _TEXTS)),
        path=get("path", _TEXT),
        sha256=get("sha256", _HASH),
        config_sha256=get("config_sha256", _HASH),
        bytes=get("bytes", _COUNT),
        shard=get("shard", _ANY_TEXT, default=""),
        row=get("row", _COUNT_OR_NONE),
        row_sha256=get("row_sha256", _HASH_OR_EMPTY, default=""),
        hub=get("hub", _TEXT_VALUES, default={}),
    )
    if record.hub and (lacking := sorted({"repo", "revision", "file"} - set(record.hub))):
        problems.append(f"{where}.hub lacks {', '.join(lacking)}")
    problems += [f"{where}.hub.file: {problem}" for problem in unsafe_path(record.hub.get("file", "x"))]
    if bool(record.shard) != (record.row is not None) or bool(record.shard) != bool(record.row_sha256):
        problems.append(f"{where}: shard, row and row_sha256 belong together; it has some of them only")
    problems += [f"{where}.path: {problem}" for problem in unsafe_path(record.path)]
    return record


def _parse_shards(content: dict[str, Any], records: list[AdapterRecord], problems: list[str]) -> dict[str, Any]:
    """Return the files of the shards, each named after its content, and the check that every record points into one."""
    shards: dict[str, dict[str, Any]] = {}
    for file, one in content.items():
        get = _Checked(one, f"shards[{file}].", problems)
        shards[file] = {"sha256": get("sha256", _HASH), "bytes": get("bytes", _COUNT)}
        if isinstance(one, Mapping) and "bits" in one:
            shards[file]["bits"] = get("bits", _EIGHT)
        named = _SHARD.fullmatch(file)
        if named is None or not shards[file]["sha256"].startswith(named["begin"]):
            problems.append(f"shards: {file!r} is no name of a shard, shards/<its SHA-256's first 16>.safetensors")
    taken: dict[tuple[str, int | None], str] = {}
    for record in records:
        if record.shard and record.shard not in shards:
            problems.append(f"adapters[{record.id}].shard: {record.shard!r} is not among the bank's shards")
        elif record.shard and (other := taken.setdefault((record.shard, record.row), record.id)) != record.id:
            problems.append(f"adapters[{record.id}].row: {record.row} of {record.shard} is that of {other!r}")
    return shards
