"""Where the base of a bank is, and under which names its adapters may know it."""

from __future__ import annotations

import json

import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder.local import build
from lorameta.errors import BankError, UsageError
from tests.bank_builder.building import options

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def test_where_the_base_is(parts, tmp_path):
    """Named by its path with a copy of its tokenizer; or carried along, and then it may go."""
    built = build(tmp_path / "named", **options(parts))
    named = AdapterBank.open(tmp_path / "named")
    assert named.base_model == str((parts / "base").resolve())
    assert named.tokenizer_path == (tmp_path / "named" / "tokenizer").resolve()
    assert any("--copy-base" in note for note in built.notes)
    build(tmp_path / "carried", **options(parts, copy_base=True))
    carried = AdapterBank.open(tmp_path / "carried")
    assert carried.base_model == str((tmp_path / "carried" / "base").resolve())
    assert set(carried.manifest.base.sha256) == {path.name for path in (parts / "base").iterdir()}
    (parts / "base").rename(parts / "gone")
    assert AdapterBank.open(tmp_path / "carried").check().problems == []
    assert carried["opposite"].modules
    assert "is not on this machine" in AdapterBank.open(tmp_path / "named").check().warnings[0]
    assert AdapterBank.open(tmp_path / "named")["opposite"].modules


def test_a_base_of_the_hub(parts, tmp_path):
    for path in parts.glob(f"adapters/*/{CONFIG}"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "Owner/Base"}))
    with pytest.raises(UsageError, match="give --tokenizer"):
        build(tmp_path / "bank", **options(parts, base="owner/base"))
    tokenizer = str(parts / "base")
    build(tmp_path / "bank", **options(parts, base="owner/base", revision="abc", tokenizer=tokenizer, name="mine"))
    bank = AdapterBank.open(tmp_path / "bank")
    assert (bank.base_model, bank.base_revision, bank.name) == ("owner/base", "abc", "mine")
    assert (bank.path / "tokenizer" / "tokenizer.json").is_file()
    assert bank.check().ok
    with pytest.raises(BankError, match="--base-name Owner/Base") as caught:
        build(tmp_path / "other", **options(parts))
    assert str(caught.value).count("trained on 'Owner/Base'") == 4
    build(tmp_path / "other", **options(parts, base_name="owner/base"))
    assert AdapterBank.open(tmp_path / "other").check().ok


def test_one_base_under_the_names_of_several_tools(parts, tmp_path):
    names = ["owner/tiny-mistral", "unsloth/tiny-mistral-bnb-4bit", "/data/models/tiny-mistral", "me/my-copy"]
    for path, name in zip(sorted(parts.glob(f"adapters/*/{CONFIG}")), names, strict=True):
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": name}))
    with pytest.raises(BankError, match="--base-name me/my-copy") as caught:
        build(tmp_path / "bank", **options(parts, base_name="owner/tiny-mistral"))
    assert str(caught.value).count("trained on") == 1  # quantized copies and folders of the same name are known
    build(tmp_path / "bank", **options(parts, base_name=["owner/tiny-mistral", "me/my-copy"]))
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.manifest.base.also == ("me/my-copy",)
    assert bank.check().ok
    hub = options(parts, base="owner/tiny-mistral", base_name=["me/my-copy"], tokenizer=str(parts / "base"))
    build(tmp_path / "hub", **hub)
    assert AdapterBank.open(tmp_path / "hub").base_model == "owner/tiny-mistral"
