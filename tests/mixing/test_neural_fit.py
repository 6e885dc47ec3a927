"""An operator that is fitted to a bank, kept with it, and refused by any other."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorameta.bank import AdapterBank
from lorameta.distance import distance_matrix
from lorameta.errors import BankError, UsageError
from lorameta.mixing import neural_fit as fit
from lorameta.operator.neural import leave_one_out, reconstruction_errors


@pytest.fixture
def bank(tiny_bank, tmp_path):
    shutil.copytree(tiny_bank, tmp_path / "bank")
    return AdapterBank.open(tmp_path / "bank")


@pytest.fixture
def found(bank):
    return fit.fit(bank, "js", width=4, iterations=20)


def test_its_errors_are_those_of_the_dense_updates(bank, found):
    dense = np.array([np.concatenate([pair.delta().ravel() for pair in bank[name].modules.values()]) for name in bank])
    dense = dense.astype(np.float64)
    np.testing.assert_allclose(fit.bank_gram(bank), dense @ dense.T, rtol=1e-4, atol=1e-3)
    weights = leave_one_out(distance_matrix(bank.summaries, "js"), found.operator.weights)
    errors = ((weights @ dense - dense) ** 2).sum(axis=1) / (dense**2).sum(axis=1)
    assert found.operator.errors["neural"] == pytest.approx(errors.mean(), rel=1e-4)
    np.testing.assert_allclose(reconstruction_errors(weights, dense @ dense.T), errors, rtol=1e-6)
    assert found.content_hash == bank.content_hash
    assert found.adapters == 4


def test_what_is_saved_is_what_is_loaded_and_the_same_bytes_each_time(bank, found):
    path = fit.save(found, bank)
    assert path == bank.path / "operators" / "neural-js.safetensors"
    first = path.read_bytes()
    again = fit.load(bank, "js")
    assert again.as_dict() == found.as_dict()
    d = np.array([0.1, 0.5, 0.3, 0.2])
    np.testing.assert_array_equal(again.operator.weights(d), found.operator.weights(d))
    assert fit.save(fit.fit(bank, "js", width=4, iterations=20), bank).read_bytes() == first
    assert bank.check().ok


def test_a_bank_without_one_names_the_command(bank, found):
    fit.save(found, bank)
    with pytest.raises(BankError, match=r"lorameta bank fit .*bank --distance kl"):
        fit.load(bank, "kl")


def test_a_bank_with_other_adapters_refuses_it(bank, found):
    fit.save(found, bank)
    manifest = json.loads((bank.path / "bank.json").read_text())
    manifest["adapters"][0]["sha256"] = "0" * 64
    (bank.path / "bank.json").write_text(json.dumps(manifest))
    changed = AdapterBank.open(bank.path)
    assert changed.content_hash != bank.content_hash
    for other in (changed, bank.without("opposite")):
        with pytest.raises(BankError, match=r"not the \d of this bank.*lorameta bank fit"):
            fit.load(other, "js")


def test_the_order_of_the_bank_does_not_matter(bank, found):
    fit.save(found, bank)
    turned = bank.select(bank.ids[::-1])
    assert turned.content_hash == bank.content_hash
    assert fit.load(turned, "js").adapters == 4


def test_a_part_of_a_bank_is_fitted_but_not_kept(bank):
    part = bank.without("opposite")
    found = fit.fit(part, "js", width=4, iterations=5)
    assert found.adapters == 3
    assert found.cross_validated == {}
    for target in (part, bank):
        with pytest.raises(UsageError, match=r"fitted to 3 adapters, which are not the 4"):
            fit.save(found, target)
    assert not (bank.path / "operators").exists()


def damage_truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


def damage_nan(path):
    rewrite(path, lambda arrays, header: arrays["output.weight"].fill(np.nan))


def damage_shape(path):
    rewrite(path, lambda arrays, header: arrays.update({"norm1.gain": np.ones(5)}))


def damage_distance(path):
    rewrite(path, lambda arrays, header: header.update(distance="kl"))


def damage_format(path):
    rewrite(path, lambda arrays, header: header.update(format=99))


def damage_header(path):
    rewrite(path, lambda arrays, header: header.pop("width"))


def rewrite(path, change):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["lorameta"])
    arrays = load_file(path)
    change(arrays, header)
    save_file(arrays, path, metadata={"lorameta": json.dumps(header)})


@pytest.mark.parametrize(
    "damage", [damage_truncated, damage_nan, damage_shape, damage_distance, damage_format, damage_header]
)
def test_a_damaged_file_is_named_with_the_remedy(bank, found, damage):
    path = fit.save(found, bank)
    damage(path)
    with pytest.raises(BankError, match=r"neural-js.safetensors is damaged .*lorameta bank fit"):
        fit.load(bank, "js")


def test_what_the_bank_has_summaries_for_can_be_fitted(bank):
    assert {"js", "kl", "gaussian", "cosine"} <= set(fit.fittable(bank))
