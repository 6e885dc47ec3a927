"""Combining what does not fit together is refused, and everything that does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.combiner import combine
from lorameta.errors import BankError, UsageError
from tests.combiner.oracle import D_IN, D_OUT, MODULES, make


def test_factor_refuses_unequal_adapters_module_by_module():
    with pytest.raises(BankError) as caught:
        combine([make(0), make(1, rank=4)], [0.5, 0.5], method="factor")
    assert all(f"{module}: " in str(caught.value) for module in MODULES)
    with pytest.raises(BankError, match="scaling 1"):
        combine([make(0), make(1, scaling=1.0)], [0.5, 0.5], method="factor")


def test_adapters_that_do_not_fit_are_all_named():
    wide = make(1, modules={"m.0.q": (D_OUT, D_IN + 1), "m.0.k": (6, D_IN), "m.1.down": (D_IN + 2, D_OUT)}, name="wide")
    empty = Adapter({}, "base", name="empty")
    other = Adapter(make(2).modules, "other-base", name="stranger")
    with pytest.raises(BankError) as caught:
        combine([make(0, name="first"), wide, empty, other], [0.25] * 4)
    message = str(caught.value)
    for named in (
        "wide, m.0.q: its update is (14, 12), that of first is (14, 11)",
        "wide, m.1.down",
        "empty has no modules",
        "first is of base, stranger is of other-base",
    ):
        assert named in message
    assert "m.0.k" not in message


@pytest.mark.parametrize(
    ("weights", "options", "named"),
    [
        ([1.0], {}, "2 adapters and weights of shape"),
        ([[0.5, 0.5]], {}, "2 adapters and weights of shape"),
        ([0.0, 0.0], {}, "all weights are 0"),
        ([np.nan, 1.0], {}, "number 0 is not"),
        ([0.5, np.inf], {}, "number 1 is not"),
        ([0.5, 0.5], dict(method="sum"), "unknown combiner 'sum'; there are delta, concat, factor"),
        ([0.5, 0.5], dict(rank=0), "rank is 0"),
        ([0.5, 0.5], dict(rank=2.5), "rank is 2.5"),
        ([0.5, 0.5], dict(rank=True), "rank is True"),
    ],
)
def test_calls_that_cannot_work(weights, options, named):
    with pytest.raises(UsageError, match=named):
        combine([make(0), make(1)], weights, **options)


def test_no_adapters():
    with pytest.raises(UsageError, match="no adapter"):
        combine([], [])
