"""The line through timed runs: exact on straight lines, cautious beyond them, and within its time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.machine import timing
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


class Clock:
    """Stands still but for what sleeps by it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(timing, "time", found)
    return found


@pytest.mark.parametrize(("seconds", "sizes"), [(0.5, (16, 64, 256)), (0.9, (16, 64, 256, 524)), (0.05, (16, 64))])
def test_the_time_is_kept(clock, seconds, sizes):
    """From the third run on: the largest size that fits into what is left, if it is half as large again or more."""
    line = measure(lambda tokens: clock.sleep(0.001 * tokens), 100_000, seconds)
    assert line.sizes == sizes
    assert line.at(1000) == pytest.approx(1.0)
    again = sum(size for size in sizes if size < 250)  # short runs are made twice, and the first does not count
    assert clock.now == pytest.approx((sum(sizes) + again + FIRST) / 1000)


def test_a_first_run_that_takes_too_long_is_the_last(clock):
    runs: list[int] = []

    def run(tokens: int) -> None:
        runs.append(tokens)
        clock.sleep(0.3)

    assert measure(run, 1000, 0.1).seconds == pytest.approx((0.3,))
    assert runs == [FIRST, FIRST]


def test_a_short_run_that_was_disturbed_is_made_again(clock):
    pauses = iter([0.0, 0.2, 0.01])
    assert measure(lambda tokens: clock.sleep(next(pauses)), FIRST, 1.0).seconds == pytest.approx((0.01,))


def test_the_median_forgives_slow_calls(clock):
    pauses = iter([9.0, 0.01, 0.3, 0.02, 0.01, 0.03])
    assert median_seconds(lambda: clock.sleep(next(pauses)), times=5) == pytest.approx(0.02)
    assert clock.now == pytest.approx(9.37)


def test_the_median_stops_when_its_time_is_spent(clock):
    assert median_seconds(lambda: clock.sleep(1.5), seconds=2.0) == pytest.approx(1.5)
    assert clock.now == pytest.approx(3 * 1.5)
