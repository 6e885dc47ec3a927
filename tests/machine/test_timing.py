"""The line through timed runs: exact on straight lines, cautious beyond them, and within its time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.machine.timing import FACTOR, FIRST, Line, measure, median_seconds


@given(st.floats(0, 10), st.floats(0.001, 10), st.floats(1, 4096))
def test_a_straight_line_is_followed(fixed, slope, size):
    sizes = (16.0, 64.0, 256.0)
    line = Line(sizes, tuple(fixed + slope * x for x in sizes))
    if size <= 256 or slope * 256 >= (fixed + slope * 256) / 3:
        assert line.at(size) == pytest.approx(fixed + slope * size, rel=1e-6, abs=1e-6)
    for x, y in zip(sizes, line.seconds, strict=True):
        assert line.at(x) == pytest.approx(y)


@given(st.floats(0.001, 10), st.floats(0.001, 10), st.floats(100, 10000))
def test_beyond_the_runs_it_stays_between_a_third_of_and_all_of_proportional(first, second, size):
    line = Line((16.0, 64.0), (first, second))
    grown = second * (size / 64 - 1)
    assert second + grown / 3 - 1e-6 * size <= line.at(size) <= second + grown + 1e-6 * size


def test_one_run_is_taken_in_proportion():
    assert Line((16.0,), (2.0,)).at(64) == 8.0
    assert Line((1.0, 2.0), (3.0, 5.0)).scaled(2.0).at(2.0) == 10.0


def test_the_largest_size_is_reached_where_time_allows():
    sizes: list[int] = []
    line = measure(sizes.append, 500, 10.0)
    assert line.sizes == (FIRST, FIRST * FACTOR, FIRST * FACTOR**2, 500)
    assert sizes[0] == FIRST  # the run that does not count
    assert measure(sizes.append, 5, 1.0).sizes == (5,)


def test_the_time_is_kept():
    begun = time.perf_counter()
    line = measure(lambda tokens: time.sleep(0.001 * tokens), 100_000, 0.5)
    assert time.perf_counter() - begun < 2.0
    assert 100 <= line.sizes[-1] <= 500
    assert line.at(1000) == pytest.approx(1.0, rel=0.3)


def test_a_first_run_that_takes_too_long_is_the_last():
    runs: list[int] = []

    def run(tokens: int) -> None:
        runs.append(tokens)
        time.sleep(0.3)

    assert len(measure(run, 1000, 0.1).sizes) == 1
    assert len(runs) == 2


def test_the_median_forgives_one_slow_call():
    pauses = iter([0.2, 0.01, 0.3, 0.01, 0.01, 0.01])
    assert median_seconds(lambda: time.sleep(next(pauses, 0.01)), times=5) < 0.1
