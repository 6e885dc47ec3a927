"""What is fuzzed: for each kind an input made of a sound one, and the readers that it is handed to."""

from __future__ import annotations

import datetime
import json
import os
import random
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.adapter import Adapter, peft_format
from lorameta.adapter.card import card
from lorameta.adapter.peft_config import parse_settings
from lorameta.bank import AdapterBank
from lorameta.bank.fitted import fitted
from lorameta.bank.garbage import retired
from lorameta.bank.hub.contents import foreign_base, is_extra
from lorameta.bank.locate import locate
from lorameta.bank.manifest import inside, parse_manifest
from lorameta.bank.names import unsafe_ids, unsafe_path
from lorameta.bank.sharding.shard import Shard
from lorameta.data import Example, load_examples
from lorameta.encoder.summary import Summaries
from lorameta.encoder.tokens import TokenEncoder, tokenizer_hash
from lorameta.errors import printable
from lorameta.files import json_text, tensors
from lorameta.files.links import user_path
from lorameta.files.tensor_file import TensorFile
from lorameta.mixing.forecast import Record
from lorameta.operator import multi_task_file, neural_file
from lorameta.operator.network import shapes
from lorameta.operator.neural import NeuralOperator
from tests.fuzz.mutate import NASTY, damaged, structure, text

Look = Callable[[random.Random], object]
ROWS = [
    {"instruction": "Say it.", "input": "dog 1", "output": "bark"},
    {"instruction": "Say it, loudly.", "input": "a cow, \"big\"", "output": "moo\nmoo"},
    {"instruction": "", "input": "naïve 漢字", "output": "x"},
]  # fmt: skip
CHAT = [{"messages": [{"role": "user", "content": "dog"}, {"role": "assistant", "content": "bark"}]}]


#: What a caller in Python may have put into a row.
OBJECTS = (1j, b"x", float("nan"), object(), {1, 2}, range(3), int, print, Decimal("sNaN"), datetime.date(9999, 1, 1))
ENCODINGS = ("utf-8",) * 20 + ("utf-8-sig", "utf-16", "latin-1", "idna", "punycode", "cp037", "shift-jis", "no-such")
#: Of which the expressions of a tokenizer are put together.
PIECES = (
    "a",
    "[a-z]",
    r"\p{L}",
    "(",
    "(?:",
    "(?=",
    "(?i:",
    ")",
    "|",
    "*",
    "+",
    "?",
    "{1,3}",
    "{2,}",
    "++",
    "!",
    "[^\\s",
    "]",
    "^",
    "$",
)


class Kinds:
    """The inputs of one run, in a folder of its own, made of a sound bank."""

    def __init__(self, bank: Path, folder: Path) -> None:
        self.folder = folder
        self.bank = Path(shutil.copytree(bank, folder / "bank"))
        self.opened = AdapterBank.open(self.bank)
        self.manifest = json.loads((self.bank / "bank.json").read_bytes())
        self.adapter = self.bank / self.opened.records[self.opened.ids[0]].path
        self.config = json.loads((self.adapter / peft_format.CONFIG).read_bytes())
        self.weights = (self.adapter / peft_format.WEIGHTS).read_bytes()
        with TensorFile(self.adapter / peft_format.WEIGHTS) as file:
            self.shapes = {name: entry.shape for name, entry in file.entries.items()}
        self.summaries = (self.bank / self.manifest["summaries"]["file"]).read_bytes()
        self.tokenizer = _small(json.loads((self.bank / "base" / "tokenizer.json").read_bytes()))
        self.shard = self._shard()
        self.operator = self._operator()
        self.shared = multi_task_file.save(self.opened[self.opened.ids[0]], self.opened, rows=1).read_bytes()
        self.tables = self._tables()
        self.loo = {
            "format": 1, "bank": self.opened.content_hash, "settings": {"distance": "js"},
            "tasks": [{"id": name, "p_value": 0.5, "gain": {"loss": 0.1}} for name in self.opened.ids],
        }  # fmt: skip

    def all(self) -> dict[str, tuple[int, Look]]:
        """Return the kinds by name, each with how often it comes among a hundred inputs."""
        return {
            "dataset file": (24, self.dataset_file), "row objects": (14, self.row_objects),
            "bank.json": (14, self.manifest_file),
            "adapter_config.json": (14, self.config_file), "weights": (9, self.weights_file),
            "summaries": (8, self.summaries_file), "shard": (5, self.shard_file), "records": (7, self.records),
            "names and paths": (5, self.names),
        }  # fmt: skip

    def dataset_file(self, rng: random.Random) -> object:
        name, data = rng.choice(self.tables)
        path = self._write(name, damaged(rng, data))
        encoding = rng.choice(ENCODINGS)
        how = {"delimiter": rng.choice((",", "tab", "|", "", "ab")), "quoting": rng.choice(("minimal", "none", "x"))}
        return load_examples(
            path, encoding=encoding, require_output=rng.random() < 0.5, **(how if rng.random() < 0.2 else {})
        )

    def row_objects(self, rng: random.Random) -> object:
        rows: Any = structure(rng, rng.choice((ROWS, CHAT)))
        if rng.random() < 0.3 and isinstance(rows, list) and rows and isinstance(rows[0], dict) and rows[0]:
            rows[0][rng.choice(list(rows[0]))] = rng.choice(OBJECTS)
        return load_examples(rows, require_output=rng.random() < 0.5)

    def manifest_file(self, rng: random.Random) -> object:
        manifest = parse_manifest(self.bank, text(rng, self.manifest))
        bank = AdapterBank(self.bank, manifest)
        foreign_base(manifest.base)
        _ = bank.base_model, bank.tokenizer_path, bank.away, bank.content_hash
        if rng.random() < 0.1:
            bank.check()
        return [bank.inspect(name) for name in bank.ids[:1]] if not manifest.adapters[:1] or not bank.away else None

    def config_file(self, rng: random.Random) -> object:
        problems: list[str] = []
        try:
            config = json_text.decode(text(rng, self.config))
        except json_text.JsonError:
            return None
        settings = parse_settings(config, problems)
        if settings is not None:
            peft_format.match_halves(self.shapes, settings, problems)
        assert settings is not None or problems
        return problems

    def weights_file(self, rng: random.Random) -> object:
        data, problems = damaged(rng, self.weights), []
        found = tensors.from_bytes(data, problems)
        assert found or problems
        peft_format.match_halves({name: array.shape for name, array in found.items()}, None, problems)
        with TensorFile(self._write("weights.safetensors", data)) as file:
            return [file.bits(name) for name, entry in file.entries.items() if entry.dtype in tensors.KINDS]

    def summaries_file(self, rng: random.Random) -> object:
        found = Summaries.load(self._write("summaries.safetensors", damaged(rng, self.summaries)))
        return found.select(found.ids[:1])

    def shard_file(self, rng: random.Random) -> object:
        data = damaged(rng, self.shard)
        shard = Shard(self._write("shard.safetensors", data), rng.choice((len(data), len(self.shard))))
        with shard.file:
            return shard.ids

    def records(self, rng: random.Random) -> object:
        which = rng.randrange(7)
        if which == 0:
            return Record.load(self._write("leave_one_out.json", text(rng, self.loo)))
        if which == 1:
            path = self._write("tokenizer.json", text(rng, self.tokenizer))
            tokenizer_hash(path)
            return TokenEncoder(path).vocabulary_size
        if which == 4:
            path = self.bank / "operators" / "neural-js.safetensors"
            path.write_bytes(damaged(rng, self.operator))
            return neural_file.load(self.opened, "js").operator.weights(np.arange(len(self.opened), dtype=float))
        if which == 6:
            path = self.bank / "operators" / "multi_task.safetensors"
            path.write_bytes(damaged(rng, self.shared))
            return multi_task_file.load(self.opened)
        if which == 5:
            pattern = "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 12)))
            value = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            path = self._write("tokenizer.json", json.dumps(self.tokenizer | {"pre_tokenizer": value}).encode())
            return TokenEncoder(path).encode([Example("aaaaaaaaaaaaaaaaaaaaaaaaaa 12345, b! " * 3, ())])
        if which == 2:
            (self.bank / ".lorameta").mkdir(exist_ok=True)
            (self.bank / ".lorameta" / "retired.json").write_bytes(
                text(rng, {"adapters/x": 1.5, "summaries.safetensors": 2})
            )
            return retired(self.bank)
        (self.bank / "leave_one_out.json").write_bytes(text(rng, self.loo))
        return fitted(self.opened)

    def names(self, rng: random.Random) -> object:
        some = [one for one in NASTY if isinstance(one, str)]
        name = "".join(rng.choice([*some, "adapters/", "a", "/", "opposite"]) for _ in range(rng.randrange(1, 4)))
        unsafe_ids([name, name.lower()])
        assert not set(printable(name)) & {"\x1b", "\ud800"}
        is_extra(name)
        if not unsafe_path(name):
            inside(self.bank, name)
        if rng.random() < 0.3:
            object.__setattr__(adapter := self.opened[self.opened.ids[0]], "base_model", name)
            card(adapter).encode()
            return adapter.save_pretrained(self.folder / "saved")
        if rng.random() < 0.5:
            return Adapter.from_pretrained(name)
        user_path(name)
        return locate(name)

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def _shard(self) -> bytes:
        from lorameta.bank.sharding.stack import stack

        copy = Path(shutil.copytree(self.bank, self.folder / "stacked"))
        stack(copy)
        return next((copy / "shards").iterdir()).read_bytes()

    def _operator(self) -> bytes:
        parameters = {name: np.ones(shape) for name, shape in shapes(2).items()}
        operator = NeuralOperator(parameters, {"own": 0.5})
        fit = neural_file.FittedOperator(operator, "js", self.opened.content_hash, len(self.opened), {"own": 0.5}, "1")
        return neural_file.save(fit, self.opened).read_bytes()

    def _tables(self) -> list[tuple[str, bytes]]:
        import csv
        import gzip
        import io

        import pyarrow as pa
        import pyarrow.parquet as pq

        lines = "\n".join(json.dumps(row) for row in ROWS)
        found = [
            ("a.jsonl", lines.encode()),
            ("b.jsonl", json.dumps(CHAT[0]).encode()),
            ("a.json", json.dumps(ROWS).encode()),
        ]
        for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
            file = io.StringIO()
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(ROWS)
            found.append((f"a.{suffix}", file.getvalue().encode()))
        table = pa.Table.from_pylist([{**row, "day": i, "score": i / 3} for i, row in enumerate(ROWS)])
        parquet, arrow, packed = io.BytesIO(), io.BytesIO(), pa.BufferOutputStream()
        pq.write_table(table, parquet)
        with pa.ipc.new_stream(arrow, table.schema) as stream:
            stream.write_table(table)
        with pa.CompressedOutputStream(packed, "zstd") as stream:
            stream.write(lines.encode())
        found += [("a.parquet", parquet.getvalue()), ("a.arrow", arrow.getvalue())]
        return [*found, ("a.jsonl.zst", packed.getvalue().to_pybytes()), ("a.jsonl.gz", gzip.compress(lines.encode()))]


def _small(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer with few merges, which is read in less than a millisecond."""
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:5]
    keep = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)[:300]
    tokenizer["model"]["vocab"] = {name: i for i, name in enumerate(keep)}
    return tokenizer


def memory() -> int:
    """Return the bytes of memory that this process has used at most; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


np.seterr(all="ignore")
