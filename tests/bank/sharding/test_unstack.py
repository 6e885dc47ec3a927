"""Directories come back as they were, for PEFT too; a damaged row does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorameta.bank import AdapterBank
from lorameta.bank.sharding.stack import stack
from lorameta.bank.sharding.unstack import unstack
from lorameta.errors import BankError
from tests.bank.sharding.stack_helpers import MIXED, WEIGHTS, Spec, files, make_bank, numbers, remove, spans


def test_peft_loads_what_undo_wrote(tmp_path, mixed):
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    root = Path(shutil.copytree(mixed, tmp_path / "bank"))
    expected = {name: load_peft_weights(str(root / "adapters" / name), device="cpu") for name in MIXED}
    stack(root)
    unstack(root)
    for name in MIXED:
        directory = str(root / "adapters" / name)
        assert PeftConfig.from_pretrained(directory).r == MIXED[name].rank
        found = load_peft_weights(directory, device="cpu")
        assert found.keys() == expected[name].keys()
        assert all(
            found[key].dtype == tensor.dtype and found[key].equal(tensor) for key, tensor in expected[name].items()
        )


def test_foreign_names_and_float64(tmp_path):
    specs = {
        "names": Spec(infix=".default"),
        "plain": Spec(),
        "wide": Spec(dtype="float64"),
        "single": Spec(dtype="float32"),
    }
    root = make_bank(tmp_path / "bank", specs)
    early = AdapterBank.open(root)
    before, expected = files(root), numbers(early)
    done = stack(root)
    assert (done.rounded, done.changed) == (("wide",), ())
    records = AdapterBank.open(root).records
    assert len({records[name].shard for name in ("names", "plain")}) == 1
    assert len({records[name].shard for name in ("wide", "single")}) == 1
    middle = AdapterBank.open(root)
    assert numbers(middle) == expected
    assert unstack(root).changed == ("names", "wide")
    for bank in (AdapterBank.open(root), middle):
        assert numbers(bank) == numbers(bank, lazy=True) == expected
    assert AdapterBank.open(root).check().problems == []
    after = files(root)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"bank.json", f"adapters/names/{WEIGHTS}", f"adapters/wide/{WEIGHTS}"}


def test_a_damaged_row_is_neither_unstacked_nor_restacked(rows):
    record = AdapterBank.open(rows).records["g"]
    start, _ = spans(rows, "g")[0]
    with (rows / record.shard).open("r+b") as file:
        file.seek(start)
        file.write(b"\1\2")
    with pytest.raises(BankError, match=r"g: .*row 2: is not what was stacked"):
        unstack(rows)
    assert f"adapters/g/{WEIGHTS}" not in files(rows)
    remove(rows, "a")
    with pytest.raises(BankError, match=r"g: .*row 2: is not what was stacked"):
        stack(rows, restack=True)
    assert AdapterBank.open(rows).check().problems != []
    assert len(AdapterBank.open(rows)["b"].modules) == 3
