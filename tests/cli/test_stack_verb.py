"""`lorameta bank stack`: there and back, and what it says."""

import json
import shutil

import pytest

from tests.bank.sharding.stack_helpers import Spec, make_bank

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def bank(tiny_bank, tmp_path):
    return shutil.copytree(tiny_bank, tmp_path / "bank")


def test_there_and_back(lorameta, bank):
    weights = {path: path.read_bytes() for path in bank.glob(f"adapters/*/{WEIGHTS}")}
    result = lorameta("bank", "stack", bank)
    assert result.code == 0, result.err
    assert "Moved 4 adapters" in result.out
    assert "into 1 shard in" in result.out
    assert not any(path.exists() for path in weights)
    assert lorameta("bank", "check", bank).code == 0
    assert lorameta("bank", "info", bank, "--json").json["adapters"] == 4
    assert "Nothing to move: all adapters of the bank tiny-bank are in shards." in lorameta("bank", "stack", bank).out
    result = lorameta("bank", "stack", bank, "--undo")
    assert "out of 1 shard in" in result.out
    assert "They are bit by bit the files that were stacked." in result.out
    assert {path: path.read_bytes() for path in weights} == weights
    assert "directories of their own" in lorameta("bank", "stack", bank, "--undo").out


def test_json_and_sizes(lorameta, bank):
    size = sum(path.stat().st_size for path in bank.glob(f"adapters/*/{WEIGHTS}"))
    facts = lorameta("bank", "stack", bank, "--shard-size", "20 kB", "--json").json
    assert (facts["bank"], facts["adapters"], facts["bytes"], facts["undo"]) == ("tiny-bank", 4, size, False)
    assert len(facts["shards"]) > 1
    assert all((bank / shard).stat().st_size <= 20_000 for shard in facts["shards"])
    facts = lorameta("bank", "stack", bank, "--restack", "--json").json
    assert (facts["adapters"], len(facts["shards"])) == (4, 1)
    facts = lorameta("bank", "stack", bank, "--undo", "--json").json
    assert (facts["adapters"], facts["bit_identical"], facts["changed"]) == (4, True, [])


def test_what_is_not_bit_identical_is_said(lorameta, tmp_path):
    specs = {"a": Spec(), "b": Spec(infix=".default"), "c": Spec(dtype="float64")}
    bank = make_bank(tmp_path / "bank", specs)
    assert "float64 became float32: c" in lorameta("bank", "stack", bank).out
    out = lorameta("bank", "stack", bank, "--undo").out
    assert "1 are bit by bit the files that were stacked; 2 hold the same numbers" in out
    assert out.rstrip().endswith("b, c")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--shard-size", "large"], "'large' is no size; give e.g. 4GB"),
        (["--shard-size", "0"], "'0' is no size; give e.g. 4GB"),
        (["--undo", "--restack"], "--undo makes directories"),
        (["--undo", "--shard-size", "1GB"], "--undo makes directories"),
    ],
)
def test_options_that_cannot_work(lorameta, bank, words, named):
    before = (bank / "bank.json").read_bytes()
    result = lorameta("bank", "stack", bank, *words)
    assert result.code == 2
    assert named in result.err
    assert (bank / "bank.json").read_bytes() == before


def test_the_embedded_bank_is_left_alone(lorameta):
    result = lorameta("bank", "stack", "embedded")
    assert result.code == 2
    assert "copy its directory" in result.err
    assert lorameta("bank", "stack").code == 2


def test_damage_is_named_and_nothing_moves(lorameta, bank):
    path = bank / "adapters" / "opposite" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-9])
    result = lorameta("bank", "stack", bank)
    assert result.code == 2
    assert "opposite: " in result.err
    assert "truncated" in result.err
    assert "shards" not in json.loads((bank / "bank.json").read_text())
