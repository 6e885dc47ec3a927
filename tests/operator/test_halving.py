"""Successive halving: what it keeps, and what it spends."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.operator.halving import halve
from lorameta.operator.mixture_loss import Measured


class Table:
    """Stands in for a MixtureLoss: losses[i, row] of adapter i on a row."""

    def __init__(self, losses, rows=None, runs=None):
        self.losses, self.rows, self.runs = losses, rows, [] if runs is None else runs
        self.count = len(losses)

    def on(self, rows):
        return Table(self.losses, list(rows), self.runs)

    def one(self, index):
        return np.eye(self.count)[index]

    def measure(self, weights):
        index = int(np.argmax(weights))
        self.runs += [(index, row) for row in self.rows]
        found = self.losses[index, self.rows]
        return Measured(found, np.ones(len(found), dtype=int), np.zeros(len(found), dtype=bool))


@pytest.mark.parametrize("keep", [1, 3, 8])
def test_it_keeps_those_that_are_best_on_every_row_in_their_order(keep):
    rng = np.random.default_rng(keep)
    rank = rng.permutation(16)
    table = Table(rank[:, None] + rng.uniform(0, 0.5, (16, 40)))
    np.testing.assert_array_equal(halve(table, range(40), keep), np.argsort(rank)[:keep])


def test_it_runs_no_row_twice_and_far_fewer_than_all():
    table = Table(np.random.default_rng(0).uniform(size=(32, 64)))
    halve(table, range(64), 2)
    assert len(set(table.runs)) == len(table.runs)
    # 32 adapters on 4 rows, 16 on 4 more, 8 on 8, 4 on 16.
    assert len(table.runs) == 32 * 4 + 16 * 4 + 8 * 8 + 4 * 16
    assert [row for index, row in table.runs if index == 0][:4] == [0, 1, 2, 3]


def test_later_rows_correct_the_first_where_the_adapter_is_still_there():
    losses = np.ones((4, 8))
    losses[1, :4], losses[2, :4] = 0.5, 0.9  # adapter 2 starts second
    losses[2, 4:] = 0.1
    assert halve(Table(losses), range(8), 1).tolist() == [2]


def test_few_rows_end_it():
    losses = np.arange(8.0)[::-1][:, None] + np.zeros((8, 3))
    assert halve(Table(losses), range(3), 2).tolist() == [7, 6]
    assert halve(Table(losses), range(3), 20).tolist() == list(range(8))
