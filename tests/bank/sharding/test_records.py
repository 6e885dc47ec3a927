"""Records and manifests of stacked banks that cannot be are refused; opening reads nothing but bank.json."""

from __future__ import annotations

import os
import shutil

import pytest

from lorameta.bank import AdapterBank
from lorameta.bank.sharding.stack import stack
from lorameta.errors import BankError
from tests.bank.parts import edit
from tests.bank.sharding.stack_helpers import WEIGHTS, Spec, change_record, make_bank
from tests.counting import calls_of


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"shard": "../x.safetensors"}, r"adapters\[a\]\.shard: '\.\./x\.safetensors' is not among the bank's shards"),
        ({"shard": "shards/0123456789abcdef.safetensors"}, "is not among the bank's shards"),
        ({"shard": ""}, "shard, row and row_sha256 belong together"),
        ({"row": None}, "belong together"),
        ({"row_sha256": ""}, "belong together"),
        ({"row": -1}, r"adapters\[a\]\.row is -1"),
        ({"row": True}, r"adapters\[a\]\.row is True"),
        ({"row": 1}, r"adapters\[b\]\.row: 1 of .* is that of 'a'"),
        ({"row_sha256": "xyz"}, "64 hexadecimal digits"),
    ],
)
def test_records_that_cannot_be_are_refused(rows, fields, named):
    change_record(rows, "a", **fields)
    with pytest.raises(BankError, match=named):
        AdapterBank.open(rows)


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "shards/x.safetensors", "shards/../bank.json", ""])
def test_shards_of_other_names_are_refused(rows, file):
    edit(rows, lambda content: content["shards"].update({file: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(BankError, match="is no name of a shard"):
        AdapterBank.open(rows)


def test_a_bank_of_format_1_has_no_shards(rows):
    edit(rows, lambda content: content.update(format=1))
    with pytest.raises(BankError, match="a bank of format 1 has none"):
        AdapterBank.open(rows)


def test_rows_that_are_not_there_or_anothers_are_named(rows):
    change_record(rows, "g", row=7)
    for call in (AdapterBank.open(rows).__getitem__, AdapterBank.open(rows).lazy):
        with pytest.raises(BankError, match=r"shards/\w+\.safetensors has no row 7, only 3"):
            call("g")
    change_record(rows, "a", row=2)
    with pytest.raises(BankError, match=r"has 'g' in row 2"):
        AdapterBank.open(rows)["a"]


def test_a_configuration_that_changed_is_found_in_stacked_banks_too(rows):
    config = rows / "adapters" / "a" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 6.0', '"lora_alpha": 60.0'))
    for call in (AdapterBank.open(rows).__getitem__, AdapterBank.open(rows).lazy):
        with pytest.raises(BankError, match=r"alpha is 60\.0 by the files(.|\n)*config_sha256"):
            call("a")


def test_lazy_directories_are_refused_as_eager_ones_are(root):
    os.truncate(root / "adapters" / "a" / WEIGHTS, 100)
    (root / "adapters" / "b" / WEIGHTS).rename(root / "adapters" / "b" / "adapter_model.bin")
    shutil.copy(root / "adapters" / "e" / WEIGHTS, root / "adapters" / "g" / WEIGHTS)
    bank = AdapterBank.open(root)
    for name, named in (("a", "truncated"), ("b", "adapter_model.bin is a pickle"), ("g", "bytes is .* by the files")):
        with pytest.raises(BankError, match=named):
            bank.lazy(name)


def test_a_bank_of_502_opens_without_its_shards(tmp_path):
    """Opening reads bank.json alone, with some hundred calls for each record."""
    root = make_bank(tmp_path / "bank", {"a": Spec(), "b": Spec()})
    stack(root)

    def multiply(content):
        first = content["adapters"][0]
        more = {"description": "word " * 120, "training": {"losses": [0.1 * i for i in range(20)]}}
        content["adapters"] = [{**first, **more, "id": f"task-{i}", "row": i} for i in range(502)]

    edit(root, multiply)
    shutil.rmtree(root / "shards")
    assert len(AdapterBank.open(root)) == 502
    assert calls_of(lambda: AdapterBank.open(root)) < 1000 * 502
