"""The small parts of a refinement: rows that are held out, micro-batches, the budget, the settings, the plan."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.base_model.batch import EncodedExample
from lorameta.data import Example
from lorameta.errors import DataError, LorametaError, UsageError
from lorameta.training import LoraTraining, RefineSettings
from lorameta.training.budget import Budget
from lorameta.training.options import settings_of
from lorameta.training.plan import FORWARD, VALIDATION, held_out_for, refuse_time
from lorameta.training.rows import hold_out, micro_batches

ROWS = [Example(f"prompt {i}", (f"answer {i % 7}",)) for i in range(300)]


@pytest.mark.parametrize(("count", "held"), [(2, 1), (10, 2), (40, 10), (64, 16), (160, 16), (300, 30)])
def test_a_tenth_is_held_out_and_of_few_rows_more(count, held):
    parts = hold_out(ROWS[:count] * 2, 0.1)
    assert parts.counts() == {"train": 2 * (count - held), "validation": 2 * held, "test": 0}
    assert not set(parts.train) & set(parts.validation)


def test_order_decides_nothing_and_one_row_is_too_few():
    assert hold_out(random.Random(0).sample(ROWS, 300), 0.1) == hold_out(ROWS, 0.1)
    with pytest.raises(DataError, match="1 different row"):
        hold_out([ROWS[0]] * 5, 0.1)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40), st.one_of(st.none(), st.integers(1, 9)), st.integers(1, 200)
)
def test_micro_batches_are_a_partition_within_their_bounds(lengths, rows, tokens):
    chosen = list(range(0, len(lengths), 2))
    found = list(micro_batches(lengths, chosen, rows=rows, tokens=tokens))
    assert sorted(i for micro_batch in found for i in micro_batch) == chosen
    for micro_batch in found:
        assert micro_batch
        if rows is not None:
            assert len(micro_batch) <= rows
        else:
            assert len(micro_batch) == 1 or len(micro_batch) * max(lengths[i] for i in micro_batch) <= tokens
    longest = [max(lengths[i] for i in micro_batch) for micro_batch in found]
    assert longest == sorted(longest, reverse=True)


@pytest.mark.parametrize("steps", [1, 7, 40, 300])
def test_over_steps_the_rate_is_that_of_bank_train(steps):
    settings = LoraTraining()
    budget = Budget(steps, None, settings.warm_up(steps))
    for step in range(steps):
        assert budget.factor(step, 1e9) == pytest.approx(settings.factor(step, steps))
    assert not budget.ends(steps - 1, 1e9, 1e9)
    assert budget.ends(steps, 0.0, 0.0)


def test_over_time_the_rate_falls_with_the_time():
    budget = Budget(None, 100.0, 5)
    assert budget.factor(50, 50.0) == pytest.approx(0.5)
    assert budget.factor(50, 100.0) == pytest.approx(0.0, abs=1e-12)
    assert budget.factor(0, 0.0) == pytest.approx(0.2)
    assert not budget.ends(10**6, 89.0, 10.0)
    assert budget.ends(1, 91.0, 10.0)


def test_whichever_is_used_up_first_ends_the_run():
    budget = Budget(10, 100.0, 0)
    assert budget.used(5, 10.0) == 0.5
    assert budget.used(1, 70.0) == 0.7
    assert budget.ends(10, 0.0, 0.0)
    assert budget.ends(1, 99.0, 2.0)


def test_measuring_the_held_out_rows_stays_a_small_part():
    rows = [EncodedExample(list(range(20)), 10)] * 200
    for tokens in (4_000, 40_000, 400_000):
        count, times = held_out_for(rows, tokens, 16, 20)
        assert 16 <= count <= 200
        assert 1 <= times <= 20
        assert FORWARD * 20 * count * times <= VALIDATION * tokens
    assert held_out_for(rows, 100, 16, 20) == (16, 1)  # the fewest rows, once, are measured however short the run is
    assert held_out_for(rows, 4_000, 16, 20)[0] < held_out_for(rows, 40_000, 16, 20)[0]


def test_too_little_time_is_refused_with_what_would_do():
    refuse_time(1.0, 20.0, 15.0)
    with pytest.raises(LorametaError, match=r"a step takes 60\.0 s.*at least 1\.5"):
        refuse_time(1.0, 60.0, 15.0)


def test_steps_of_a_run():
    assert RefineSettings().steps_of(10) == 30
    assert RefineSettings(epochs=2).steps_of(10) == 20
    assert RefineSettings(steps=7).steps_of(10) == 7
    assert RefineSettings(steps=70, epochs=2).steps_of(10) == 20
    assert RefineSettings(minutes=1).steps_of(10) is None
    assert RefineSettings(minutes=1, steps=5).steps_of(10) == 5


@pytest.mark.parametrize(("rows", "batch"), [(5, 4), (100, 6), (1000, 8)])
def test_few_rows_have_small_batches(rows, batch):
    assert RefineSettings().training(rank=8, rows=rows).batch_size == batch
    assert RefineSettings(batch_size=3).training(rank=8, rows=rows).batch_size == 3


def test_wrong_settings_are_refused_together():
    with pytest.raises(UsageError) as error:
        RefineSettings(steps=0, minutes=-1, precision="float16", dropout=1.0, learning_rate=math.nan)
    for word in ("steps", "minutes", "precision", "dropout", "learning_rate"):
        assert f"{word} is" in str(error.value)
    with pytest.raises(UsageError, match="no setting step, tempo; there are epochs"):
        settings_of({"step": 3, "tempo": 1})
