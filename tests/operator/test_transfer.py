"""The transfer operator: its prediction against a dense least squares, its file, and what it is measured from."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.base_model.load import load_base
from lorameta.data import load_examples
from lorameta.errors import BankError, UsageError
from lorameta.generate import generate_adapter
from lorameta.mixing.transfer_fit import measure
from lorameta.operator.mixture_loss import MixtureLoss
from lorameta.operator.transfer import predicted_worth, standardised_rows
from lorameta.operator.transfer_file import load, path_of, save
from tests.conftest import TASKS

N = 6


@pytest.fixture
def numbers():
    rng = np.random.default_rng(5)
    return rng.standard_normal((N, N)), rng.random((N, N)), rng.random(N)


@pytest.fixture
def bank(tiny_bank, tmp_path):
    shutil.copytree(tiny_bank, tmp_path / "bank")
    return AdapterBank.open(tmp_path / "bank")


def rows_of(name):
    told, inputs, outputs = TASKS[name]
    return load_examples(
        [{"input": f"{told} {a}", "output": b} for a, b in zip(inputs, outputs, strict=True)], require_output=True
    )


def test_the_prediction_is_a_mean_and_a_least_squares_line(numbers):
    worth, matrix, distances = numbers
    off = ~np.eye(N, dtype=bool)

    def rows(values):
        return [
            [(values[i, j] - values[i, off[i]].mean()) / values[i, off[i]].std() for j in range(N) if j != i]
            for i in range(N)
        ]

    high, near = np.full((N, N), np.nan), np.full((N, N), np.nan)
    high[off], near[off] = np.ravel(rows(worth)), np.ravel(rows(matrix))
    mean = np.array([np.mean([high[i, j] for i in range(N) if i != j]) for j in range(N)])
    line = np.linalg.lstsq(near[off][:, None], (high - mean)[off], rcond=None)[0][0]
    expected = mean + line * (distances - distances.mean()) / distances.std()
    found, slope = predicted_worth(worth, matrix, distances, ridge=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert slope == pytest.approx(line)
    assert abs(predicted_worth(worth, matrix, distances, ridge=50.0)[1]) < abs(slope)


def test_units_do_not_matter_and_the_order_of_the_bank_goes_along(numbers):
    worth, matrix, distances = numbers
    found, _ = predicted_worth(worth, matrix, distances)
    other, _ = predicted_worth(3 * worth - 7, 0.1 * matrix + 1, 5 * distances)
    np.testing.assert_allclose(other, found, rtol=1e-9)
    order = np.random.default_rng(1).permutation(N)
    turned, _ = predicted_worth(worth[np.ix_(order, order)], matrix[np.ix_(order, order)], distances[order])
    np.testing.assert_allclose(turned, found[order], rtol=1e-9)


def test_the_diagonal_is_not_looked_at(numbers):
    worth, matrix, distances = numbers
    found, _ = predicted_worth(worth, matrix, distances)
    other, _ = predicted_worth(worth + np.diag(np.full(N, 1e9)), matrix + np.eye(N), distances)
    np.testing.assert_array_equal(other, found)
    assert np.isnan(np.diag(standardised_rows(worth))).all()


def test_a_bank_that_is_worth_the_same_everywhere_leaves_the_distances_out(numbers):
    _, matrix, distances = numbers
    found, slope = predicted_worth(np.ones((N, N)), matrix, distances)
    assert slope == 0
    np.testing.assert_array_equal(found, np.zeros(N))


def test_shapes_that_do_not_fit_are_refused(numbers):
    worth, matrix, distances = numbers
    with pytest.raises(UsageError, match="must be square"):
        predicted_worth(worth, matrix, distances[:-1])
    with pytest.raises(UsageError, match="three at least"):
        predicted_worth(worth[:2, :2], matrix[:2, :2], distances[:2])


def test_worth_is_the_slope_of_the_loss_per_unit_of_norm(bank):
    base = load_base(bank.base_model, bank.base_revision, "float32")
    base.model.double()
    rows = {name: rows_of(name) for name in bank.ids}
    worth = measure(bank, rows, base=base)
    adapters = [bank[name] for name in bank.ids]
    loss, step = MixtureLoss(base, adapters, rows[bank.ids[0]]), 2e-3
    centre = np.array([0.0, 1 / 3, 1 / 3, 1 / 3])
    for other in (1, 3):
        towards = np.eye(4)[other] * step
        slope = (loss(centre + towards) - loss(centre - towards)) / (2 * step)
        assert worth[0, other] == pytest.approx(-slope / adapters[other].norm(), rel=1e-2, abs=1e-5)
    with pytest.raises(UsageError, match="no rows of 1 tasks: opposite"):
        measure(bank, {name: some for name, some in rows.items() if name != "opposite"}, base=base)


def test_a_view_of_the_bank_has_its_part(bank):
    worth = np.arange(16.0).reshape(4, 4)
    save(worth, bank, rows=12)
    np.testing.assert_array_equal(load(bank), worth)
    some = [bank.ids[2], bank.ids[0]]
    np.testing.assert_array_equal(load(bank.select(some)), worth[np.ix_([2, 0], [2, 0])])
    with pytest.raises(UsageError, match="all 4 adapters"):
        save(worth[:2, :2], bank.select(some), rows=12)
    with pytest.raises(UsageError, match="finite"):
        save(np.full((4, 4), np.nan), bank, rows=12)


def test_what_does_not_belong_is_refused_with_the_command(bank):
    with pytest.raises(BankError, match=r"lorameta bank fit \S+ --operator transfer --tasks FOLDER"):
        load(bank)
    save(np.zeros((4, 4)), bank, rows=12)
    text = (bank.path / "bank.json").read_text()
    first = bank.records[bank.ids[0]].sha256
    (bank.path / "bank.json").write_text(text.replace(first, "0" * 64))
    with pytest.raises(BankError, match="1 adapters were added or changed"):
        load(AdapterBank.open(bank.path))
    path_of(bank).write_bytes(b"x" * 100)
    with pytest.raises(BankError, match="is damaged"):
        load(bank)


def test_generating_weighs_by_it(bank, tiny_rows):
    worth = np.tile([0.0, 1.0, 2.0, 9.0], (4, 1))
    save(worth, bank, rows=12)
    weights = generate_adapter(tiny_rows, bank=bank, operator="transfer", distance="js").weights
    assert max(weights, key=weights.get) == bank.ids[3]
    assert sum(weights.values()) == pytest.approx(1)
    near = generate_adapter(tiny_rows, bank=bank, operator="transfer", distance="js", temperature=0).weights
    assert [name for name, weight in near.items() if weight] == [bank.ids[3]]
