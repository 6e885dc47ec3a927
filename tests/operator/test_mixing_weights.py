"""What holds of every operator, and what `mixing_weights` refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from lorameta.errors import UsageError
from lorameta.operator import OPERATORS, effective_number, mixing_weights

every = pytest.mark.parametrize("operator", [name for name, known in OPERATORS.items() if not known.needs])
rows = arrays(np.float64, st.integers(1, 10), elements=st.floats(0, 30))
D = np.array([0.4, 0.1, 0.7, 0.1, 0.2])


@every
@given(d=rows, t=st.floats(0, allow_nan=False), data=st.data())
def test_weights_are_on_the_simplex(operator, d, t, data):
    top_k = data.draw(st.none() | st.integers(1, len(d)))
    w = mixing_weights(d, operator, temperature=t, top_k=top_k)
    assert w.shape == d.shape
    assert w.dtype == np.float64
    assert (w >= 0).all()
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert top_k is None or np.count_nonzero(w) <= top_k
    assert 1 - 1e-9 <= effective_number(w) <= len(d) + 1e-9


@every
@given(d=rows.filter(lambda d: len(np.unique(d)) == len(d)), data=st.data())
def test_permuting_the_bank_permutes_the_weights(operator, d, data):
    order = np.array(data.draw(st.permutations(range(len(d)))))
    ours, theirs = mixing_weights(d[order], operator), mixing_weights(d, operator)[order]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)


@every
@given(d=rows)
def test_one_adapter_gets_all(operator, d):
    np.testing.assert_array_equal(mixing_weights(d[:1], operator), [1])


def test_the_operators_by_hand():
    np.testing.assert_allclose(mixing_weights(D, "attentional", temperature=0.1), softmax(-D / 0.1), rtol=1e-12)
    np.testing.assert_allclose(mixing_weights(D, "normalized"), softmax(-(D - D.mean()) / D.std()), rtol=1e-12)
    np.testing.assert_array_equal(mixing_weights(D, "nearest"), [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(mixing_weights(D, "uniform"), [0.2] * 5)
    np.testing.assert_array_equal(mixing_weights(D), mixing_weights(D, "normalized"))


@pytest.mark.parametrize("operator", ["attentional", "normalized"])
def test_the_limits_of_the_temperature(operator):
    np.testing.assert_array_equal(mixing_weights(D, operator, temperature=0), [0, 0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(mixing_weights(D, operator, temperature=np.inf), [0.2] * 5)


def test_top_k_keeps_the_largest_and_their_proportions():
    whole = mixing_weights(D, "attentional")
    kept = mixing_weights(D, "attentional", top_k=3)
    np.testing.assert_array_equal(kept > 0, [False, True, False, True, True])
    np.testing.assert_allclose(kept[kept > 0], (whole / whole[[1, 3, 4]].sum())[kept > 0], rtol=1e-12)
    np.testing.assert_allclose(mixing_weights(D, "attentional", top_k=5), whole, rtol=1e-15)


def test_top_k_breaks_ties_by_distance_and_then_by_place():
    np.testing.assert_array_equal(mixing_weights(D, "attentional", top_k=1), [0, 1, 0, 0, 0])
    # Equal weights by the operator's choice, or because all but one underflow to 0: the nearer ones stay.
    np.testing.assert_array_equal(mixing_weights(D, "uniform", top_k=3) > 0, [False, True, False, True, True])
    np.testing.assert_array_equal(mixing_weights(D, "nearest", top_k=2), [0, 1, 0, 0, 0])


def test_an_operator_may_be_a_function_of_ones_own():
    def last(distances, *, temperature):
        assert temperature == 3
        return np.array([0.0, 0.0, 0.2, 0.3, 0.5])

    np.testing.assert_array_equal(mixing_weights(D, last, temperature=3), [0, 0, 0.2, 0.3, 0.5])
    np.testing.assert_allclose(mixing_weights(D, last, temperature=3, top_k=2), [0, 0, 0, 0.375, 0.625])


def test_lists_and_numpy_integers_are_welcome():
    np.testing.assert_array_equal(mixing_weights([1, 2], "nearest", top_k=np.int64(1)), [1, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distances": []}, "the bank has no adapters"),
        ({"distances": [[1.0, 2.0]]}, "one axis"),
        ({"distances": [1.0, np.nan, np.inf]}, "must be finite; got nan at 1, inf at 2"),
        ({"operator": "magic"}, "unknown operator 'magic'; there are attentional, normalized, nearest, uniform"),
        ({"operator": "neural"}, "'neural' needs more than distances: what was fitted to the bank"),
        ({"operator": "sparse"}, "'sparse' needs more than distances: the means of sentence embeddings"),
        ({"operator": "search"}, "'search' needs more than distances: labelled rows and the base model"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": np.nan}, "temperature"),
        ({"top_k": 0}, "top_k must be a whole number from 1 to the bank's 5 adapters; got 0"),
        ({"top_k": 6}, "got 6"),
        ({"top_k": 1.5}, "got 1.5"),
        ({"top_k": True}, "got True"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(UsageError) as caught:
        mixing_weights(**{"distances": D, "operator": "attentional", **arguments})
    assert message in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(UsageError) as caught:
        mixing_weights([np.nan], "magic", temperature=-2, top_k=3)
    for word in ("finite", "magic", "temperature", "top_k"):
        assert word in str(caught.value)


def test_effective_number():
    assert effective_number(np.array([1.0, 0.0])) == 1
    assert effective_number(np.full(7, 1 / 7)) == pytest.approx(7)
    assert effective_number(np.array([0.5, 0.25, 0.25])) == pytest.approx(1 / 0.375)
    assert effective_number(np.array([2e-200, 1e-200, 1e-200])) == pytest.approx(1 / 0.375)
    assert effective_number(np.array([1.5, -0.5])) == pytest.approx(4 / 2.5)
    assert effective_number(np.array([1.0, -1.0])) == pytest.approx(2)  # also where the sum is 0


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [0.5, np.nan]])
def test_effective_number_of_no_weights_is_refused(weights):
    with pytest.raises(UsageError, match="effective number"):
        effective_number(np.array(weights))
