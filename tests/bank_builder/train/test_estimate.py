"""The time left: against the schedules that a few workers can really make."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.bank_builder.train.estimate import pace, time_left
from lorameta.machine.units import duration

SECONDS = st.lists(st.integers(1, 50), max_size=6)


@given(SECONDS, st.integers(1, 4))
def test_it_lies_between_perfect_sharing_and_one_after_the_other(waiting, workers):
    left = time_left([], waiting, workers)
    assert max([sum(waiting) / workers, *waiting]) <= left <= sum(waiting)
    assert left <= sum(waiting) / workers + max(waiting, default=0)  # Graham's bound for lists


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 3))
def test_the_longest_first_is_within_a_third_of_the_best_schedule(waiting, workers):
    best = min(
        max(sum(t for t, w in zip(waiting, plan, strict=True) if w == worker) for worker in range(workers))
        for plan in itertools.product(range(workers), repeat=len(waiting))
    )
    assert best <= time_left([], sorted(waiting, reverse=True), workers) <= 4 / 3 * best  # Graham 1969


@given(SECONDS, SECONDS)
def test_one_worker_needs_the_sum(running, waiting):
    assert time_left(running[:1], waiting, 1) == sum(running[:1]) + sum(waiting)


def test_what_runs_ends_before_what_waits_begins():
    assert time_left([10, 4], [5], 2) == 10
    assert time_left([10, 4], [5, 5], 2) == 14
    assert time_left([], [], 3) == 0


def test_pace_is_that_of_finished_tasks_else_of_measured_steps_else_unknown():
    assert pace([]) is None
    assert pace([], [2.0, 4.0]) == 3.0
    assert pace([(10, 20), (30, 40)], [99.0]) == 1.5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5300, "88 min"), (5400, "1 h 30 min"), (200_000, "2 d 8 h")],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text
