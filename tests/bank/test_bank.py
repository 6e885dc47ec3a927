"""Banks: written from parts, opened cheaply, read with every file verified, and safe against hostile manifests."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank, BaseRecord, CheckReport, write_bank
from lorameta.errors import BankError, UsageError
from tests.bank.parts import (
    HASH,
    IDS,
    TOKENIZER,
    WEIGHTS,
    edit,
    parts_of,
    record_of,
    summaries_file,
    summaries_of,
)
from tests.counting import calls_of
from tests.peft_helpers import dense, random_factors


def test_write_and_open(root):
    bank = AdapterBank.open(root)
    assert bank.ids == tuple(sorted(IDS)) == tuple(bank)
    assert (len(bank), bank.name, "alpha" in bank, "omega" in bank) == (4, "test bank", True, False)
    assert bank.base_model == str((root / "base").resolve())
    assert bank.base_revision is None
    assert bank.tokenizer_path == (root / "base").resolve()
    assert bank.manifest.left_out == ({"id": "omega", "reason": "no better than the base"},)
    record = bank.records["delta"]
    assert (record.rank, record.alpha, record.rslora) == (3, 6.0, False)
    assert record.targets == ("down_proj", "k_proj", "q_proj")
    data = (root / "adapters" / "delta" / WEIGHTS).read_bytes()
    assert (record.sha256, record.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert record.provenance() == {
        "task": "task delta", "family": "f", "licence": "MIT", "source": {"repo": "o/r", "commit": "c"},
        "sha256": record.sha256,
    }  # fmt: skip
    base = bank.manifest.base
    assert base.sha256["config.json"] == hashlib.sha256(b"{}").hexdigest()
    assert base.tokenizer_hash == bank.manifest.encoders["tokens"]["tokenizer_hash"] == HASH
    assert json.loads((root / "bank.json").read_text())["format"] == 1
    assert "4 adapters" in repr(bank)


def test_adapters_are_those_that_were_put_in(root):
    bank = AdapterBank.open(str(root / "bank.json"))
    for seed, name in enumerate(IDS):
        adapter = bank[name]
        assert (adapter.name, adapter.base_model, adapter.weights) == (name, bank.base_model, {})
        for module, expected in dense(random_factors(seed)).items():
            np.testing.assert_allclose(adapter.modules[module].delta(), expected, rtol=1e-5, atol=1e-6)


def test_summaries_follow_the_ids(root):
    bank = AdapterBank.open(root)
    assert bank.summaries.ids == bank.ids
    for i, name in enumerate(IDS):
        assert bank.summaries[name].rows == 10 + i
    view = bank.select(["gamma", "beta"])
    assert view.summaries.ids == view.ids == ("gamma", "beta")
    np.testing.assert_array_equal(view.summaries.token_counts.toarray()[:, 0], [4, 1])
    assert bank.summaries is bank.summaries
    edit(root, lambda content: content["adapters"].reverse())
    turned = AdapterBank.open(root)
    assert turned.summaries.ids == turned.ids == bank.ids[::-1]


def test_views(root):
    bank = AdapterBank.open(root)
    assert bank.without("beta").ids == ("alpha", "delta", "gamma")
    assert bank.without(["beta", "alpha"]).without("gamma").ids == ("delta",)
    assert "beta" not in bank.without("beta")
    assert bank.without(bank.ids).ids == ()
    view = bank.without("beta")
    assert view.summaries.ids == view.ids
    assert view["alpha"].modules.keys() == bank["alpha"].modules.keys()
    assert view.check().adapters == 3
    for call in (view.__getitem__, view.without, lambda name: view.select([name])):
        with pytest.raises(UsageError, match="no adapter 'beta'"):
            call("beta")
    with pytest.raises(UsageError, match="did you mean alpha"):
        bank["alhpa"]
    with pytest.raises(UsageError, match="alpha is selected twice"):
        bank.select(["alpha", "alpha"])


def test_a_bank_of_a_base_on_the_hub(tmp_path):
    parts = parts_of(tmp_path, base_model_name_or_path="Owner/Base-7B", revision="main")
    parts["base"] = BaseRecord("owner/base-7b", revision="a1b2")
    shutil.rmtree(tmp_path / "base")
    write_bank(tmp_path, **parts)
    bank = AdapterBank.open(tmp_path)
    assert (bank.base_model, bank.base_revision, bank.tokenizer_path) == ("owner/base-7b", "a1b2", None)
    assert (bank["alpha"].base_model, bank["alpha"].base_revision) == ("owner/base-7b", "a1b2")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(TOKENIZER)
    assert bank.tokenizer_path == tmp_path.resolve() / "tokenizer"
    assert bank.check().ok


def test_a_bank_written_by_hand_opens_and_is_sound(tiny_bank):
    """The miniature bank of the tests was written without any of the library's writers."""
    bank = AdapterBank.open(tiny_bank)
    assert bank.check() == CheckReport([], [], 4, bank.check().bytes)
    assert all(isinstance(bank[name], Adapter) for name in bank)


def test_an_adapter_that_changed_is_not_used(root):
    path = root / "adapters" / "alpha" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BankError, match=r"'alpha' of the bank test bank(.|\n)*sha256 is '.*by the files"):
        AdapterBank.open(root)["alpha"]
    config = root / "adapters" / "beta" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 6.0', '"lora_alpha": 7.0'))
    with pytest.raises(BankError) as caught:
        AdapterBank.open(root)["beta"]
    assert "alpha is 7.0 by the files and 6.0 by bank.json" in str(caught.value)
    assert "config_sha256" in str(caught.value)
    assert len(AdapterBank.open(root)["gamma"].modules) == 3


def test_a_view_that_keeps_reads_each_adapter_once(root, monkeypatch):
    bank = AdapterBank.open(root)
    kept, first = bank.keeping(), bank.ids[0]
    found = kept[first]
    weights = root / bank.records[first].path / "adapter_model.safetensors"
    weights.write_bytes(b"damaged since")
    assert kept[first] is found
    assert kept.keeping()[first] is found
    with pytest.raises(BankError, match=first):
        bank[first]
    monkeypatch.setattr("lorameta.bank.bank.VERIFY_BYTES", 0)
    with pytest.raises(BankError, match=first):  # too large to keep: read again
        AdapterBank.open(root).keeping()[first]


def test_summaries_of_another_bank_are_refused(root):
    path = summaries_file(root)
    other = summaries_of(["alpha", "beta", "delta", "epsilon"])
    other.save(path)
    with pytest.raises(BankError, match="SHA-256"):
        _ = AdapterBank.open(root).summaries
    data = path.read_bytes()
    edit(root, lambda content: content["summaries"].update(sha256=hashlib.sha256(data).hexdigest()))
    with pytest.raises(BankError, match=r"holds other adapters than bank\.json"):
        _ = AdapterBank.open(root).summaries
    edit(root, lambda content: content["base"].update(tokenizer_hash="another"))
    summaries_of(IDS).save(path)
    data = path.read_bytes()
    edit(root, lambda content: content["summaries"].update(sha256=hashlib.sha256(data).hexdigest()))
    assert sum("tokenizer" in problem for problem in AdapterBank.open(root).check().problems) == 3
    path.unlink()
    with pytest.raises(BankError, match="there is no such summaries file"):
        _ = AdapterBank.open(root).summaries


def test_a_missing_base_is_named(root):
    shutil.rmtree(root / "base")
    with pytest.raises(BankError, match="lacks its base model"):
        _ = AdapterBank.open(root).base_model
    assert sum("is missing" in problem for problem in AdapterBank.open(root).check().problems) == 2


def test_opening_reads_no_adapter_and_takes_each_record_once(tmp_path):
    """Counted, not timed: some hundred calls for each record, as many for the hundredth as for the first."""
    spent = {}
    for count in (25, 50, 100):
        root = tmp_path / str(count)
        parts = parts_of(root, ids=[f"task-{i:03d}" for i in range(count)])
        history = {"losses": [0.1 * i for i in range(60)]}
        parts["records"] = [record_of(one.id, training=history, description="d" * 300) for one in parts["records"]]
        write_bank(root, **parts)
        shutil.rmtree(root / "adapters")
        assert len(AdapterBank.open(root)) == count
        spent[count] = calls_of(lambda root=root: AdapterBank.open(root))
    assert spent[100] - spent[50] == pytest.approx(2 * (spent[50] - spent[25]), rel=0.02)
    assert spent[100] < 1000 * 100
