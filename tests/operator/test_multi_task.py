"""The multi-task adapter: its file, what it is trained from, and mixtures with it against the dense sum."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.bank import AdapterBank
from lorameta.base_model.load import load_base
from lorameta.data.split import Parts
from lorameta.errors import BankError, LorametaWarning, UsageError
from lorameta.generate import generate_adapter, mix
from lorameta.mixing.multi_task_fit import settings_of, train
from lorameta.operator import fitted_file, transfer_file
from lorameta.operator.mixture_loss import MixtureLoss
from lorameta.operator.multi_task_file import NAME, load, path_of, provenance, save
from tests.conftest import TASKS, task_rows


@pytest.fixture
def bank(tiny_bank, tmp_path):
    shutil.copytree(tiny_bank, tmp_path / "bank")
    return AdapterBank.open(tmp_path / "bank")


@pytest.fixture
def shared(bank):
    """An adapter of other numbers than any of the bank's, in the form of the first."""
    rng = np.random.default_rng(3)
    first = bank[bank.ids[0]]
    modules = {
        module: LoraPair(pair.A, rng.standard_normal(pair.B.shape) / 8, pair.scaling)
        for module, pair in first.modules.items()
    }
    return Adapter(modules, bank.base_model)


def dense(adapter):
    return {module: pair.delta().astype(np.float64) for module, pair in adapter.modules.items()}


def test_it_is_read_back_as_it_was_saved(bank, shared):
    save(shared, bank, rows=16)
    found = load(bank)
    assert found.base_model == bank.base_model
    for module, pair in shared.modules.items():
        np.testing.assert_array_equal(found.modules[module].A, pair.A)
        np.testing.assert_allclose(found.modules[module].B, pair.B, rtol=1e-3, atol=1e-7)
        assert found.modules[module].scaling == pair.scaling


def test_what_was_left_out_of_the_bank_does_not_come_in_by_it(bank, shared):
    with pytest.raises(BankError, match=r"lorameta bank fit \S+ --operator multi_task --tasks FOLDER"):
        load(bank)
    save(shared, bank, rows=16)
    with pytest.raises(BankError, match="trained on the tasks of 1 adapters"):
        load(bank.select(bank.ids[1:]))
    with pytest.raises(UsageError, match="of all 4 tasks"):
        save(shared, bank.select(bank.ids[1:]), rows=16)


def hostile(bank, shared, **header):
    arrays = {f"{m}.{half}": getattr(pair, half) for m, pair in shared.modules.items() for half in "AB"}
    scaling = {m: float(pair.scaling) for m, pair in shared.modules.items()}
    kept = {"adapters": [], "scaling": scaling, "sha256": digest(arrays)}
    fitted_file.save(path_of(bank), kept | header, arrays)


def digest(arrays):
    parts = (name.encode() + np.float32(arrays[name]).tobytes() for name in sorted(arrays))
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize(
    "header",
    [{"sha256": "0" * 64}, {"scaling": {}}, {"scaling": {"x": 1.0}}, {"scaling": 3}, {"adapters": 3}, {"format": 2}],
)
def test_a_file_that_does_not_hold_together_is_refused(bank, shared, header):
    hostile(bank, shared, **header)
    with pytest.raises(BankError, match="is damaged"):
        load(bank)


def test_a_changed_number_is_noticed(bank, shared):
    hostile(bank, shared)
    assert load(bank).rank == shared.rank
    whole = bytearray(path_of(bank).read_bytes())
    whole[-3] ^= 1
    path_of(bank).write_bytes(whole)
    with pytest.raises(BankError, match="not those that were written"):
        load(bank)


def test_numbers_that_are_not_finite_are_refused(bank, shared):
    module, pair = next(iter(shared.modules.items()))
    scaling = {m: float(p.scaling) for m, p in shared.modules.items()}
    for bad in (np.nan, np.inf):
        hostile(bank, shared, scaling=scaling | {module: bad})
        with pytest.raises(BankError, match="is damaged"):
            load(bank)
    path_of(bank).unlink()
    for value in (np.nan, 1e6):  # 1e6 is not in float16
        broken = LoraPair(pair.A, np.full_like(pair.B, value), pair.scaling)
        with pytest.raises(UsageError, match="float16"):
            save(Adapter(shared.modules | {module: broken}, bank.base_model), bank, rows=16)
    assert not path_of(bank).exists()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("scaling", [None, 3.0])
def test_a_mixture_with_it_is_the_weighted_sum_of_dense_updates(bank, shared, tiny_rows, share, scaling):
    if scaling is not None:
        shared = Adapter({m: p.with_scaling(scaling) for m, p in shared.modules.items()}, bank.base_model)
    save(shared, bank, rows=16)
    weights = mix(tiny_rows, bank=bank, operator="normalized").weights
    found = generate_adapter(
        tiny_rows, bank=bank, operator="multi_task", combiner="concat", operator_options={"share": share}
    )
    parts = [dense(bank[name]) for name in bank.ids]
    for module, update in dense(found).items():
        rest = sum(w * part[module] for w, part in zip(weights, parts, strict=True))
        expected = share * dense(load(bank))[module] + (1 - share) * rest
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)
    assert found.weights.get(NAME, 0.0) == share
    assert sum(found.weights.values()) == pytest.approx(1)
    assert set(found.report["sources"]) == set(found.weights)
    assert (NAME in found.report["sources"]) == (share > 0)


def test_with_one_a_the_average_of_the_factors_is_the_exact_sum(bank, shared, tiny_rows):
    """As in the bank smollm2: one A for all, scalings that differ between the bank and the multi-task adapter."""
    first = bank[bank.ids[0]]
    other = Adapter({m: p.with_scaling(p.scaling * 4) for m, p in shared.modules.items()}, bank.base_model)
    save(other, bank, rows=16)
    options = {"bank": bank.select(bank.ids), "operator": "multi_task", "temperature": 0.0}
    nearest = mix(tiny_rows, bank=bank, operator="nearest").weights.argmax()
    assert bank.ids[nearest] == bank.ids[0]
    found = generate_adapter(tiny_rows, combiner="factor", operator_options={"share": 0.5}, **options)
    assert found.rank == first.rank
    for module, update in dense(found).items():
        expected = (dense(first)[module] + dense(load(bank))[module]) / 2
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)


def test_the_rest_is_that_of_transfer_where_the_bank_has_it(bank, shared, tiny_rows):
    save(shared, bank, rows=16)
    transfer_file.save(np.tile([0.0, 1.0, 2.0, 9.0], (4, 1)), bank, rows=12)
    rest = mix(tiny_rows, bank=bank, operator="transfer", top_k=2).weights
    found = mix(tiny_rows, bank=bank, operator="multi_task", top_k=2, operator_options={"share": 0.25})
    np.testing.assert_allclose(found.weights, 0.75 * rest)
    assert found.multi_task == 0.25


def test_without_labels_auto_takes_it_and_says_why_not(bank, shared):
    unlabelled = [{"text": "Repeat the words: a b"}, {"text": "Repeat the words: c d"}]
    transfer_file.save(np.tile([0.0, 1.0, 2.0, 9.0], (4, 1)), bank, rows=12)
    save(shared, bank, rows=16)
    found = mix(unlabelled, bank=bank)
    assert (found.operator, found.auto["chose"]) == ("multi_task", "multi_task")
    with pytest.warns(LorametaWarning, match="multi_task is left out: .* the tasks of 1 adapters"):
        assert mix(unlabelled, bank=bank.select(bank.ids[1:])).operator == "transfer"


def test_a_forecast_is_of_the_share_that_was_recorded():
    rows = [{"text": f"Name the colour of the {thing}."} for thing in ("sky", "grass", "snow", "coal")]
    bank = AdapterBank.open()
    assert mix(rows, bank=bank, operator="multi_task").forecast(bank)
    assert mix(rows, bank=bank, operator="multi_task", operator_options={"share": 0.5}).forecast(bank) is None


def test_every_licence_behind_the_bank_is_named(bank, shared, tiny_rows):
    save(shared, bank, rows=16)
    from lorameta.adapter import licences

    asked = {one.id for name in bank.ids for one in licences.of_source(bank.records[name].provenance())}
    assert {one.id for one in licences.of_source(provenance(bank))} == asked


def test_it_is_trained_on_rows_of_all_tasks_with_the_banks_a(bank):
    parts = {name: Parts(tuple(rows_of(name, 12)), tuple(rows_of(name, 14)[12:])) for name in bank.ids}
    base = load_base(bank.base_model, bank.base_revision, "float32")
    bank.manifest.recipe["settings"] = {"freeze_a": True, "learning_rate": 1e-2, "batch_size": 4, "rank": 99}
    assert settings_of(bank).rank == bank.records[bank.ids[0]].rank
    steps = []
    done = train(bank, parts, rows=8, base=base, progress=steps.append)
    assert done.steps == len(steps) == len(TASKS) * 8 / 4
    first = bank[bank.ids[0]]
    for module, pair in done.adapter.modules.items():
        np.testing.assert_array_equal(pair.A, first.modules[module].A)
    held_out = [row for part in parts.values() for row in part.validation[:1]]
    loss = MixtureLoss(base, [done.adapter], held_out)
    assert loss(np.ones(1)) < loss(np.zeros(1))
    with pytest.raises(UsageError, match=f"no rows of 1 tasks: {bank.ids[0]}"):
        train(bank, {name: parts[name] for name in bank.ids[1:]}, base=base)


def rows_of(name, count):
    from lorameta.data import load_examples

    return load_examples(task_rows(name, count), require_output=True)
