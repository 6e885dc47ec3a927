from pathlib import Path

import numpy as np
import pytest

from lorameta.errors import BankError, UsageError
from lorameta.mixing.forecast import Record, interval


def record(n: int = 40, seed: int = 0) -> Record:
    generator = np.random.default_rng(seed)
    p = generator.uniform(size=n)
    settings = {"distance": "js", "operator": "normalized", "temperature": 1.0, "top_k": None, "combiner": "delta"}
    gains = {"exact_match": 0.2 * p + 0.05 * generator.normal(size=n), "loss": p}
    return Record("abc", settings, tuple(f"t{i}" for i in range(n)), p, gains)


def test_interval_is_that_of_the_paper_written_as_plain_loops() -> None:
    generator = np.random.default_rng(1)
    xs, ys, x, alpha = generator.uniform(size=23), generator.normal(size=23), 0.4, 0.2
    low, high = [], []
    for i in range(23):
        slope, intercept = np.polyfit(np.delete(xs, i), np.delete(ys, i), 1)
        residual = abs(ys[i] - slope * xs[i] - intercept)
        low.append(slope * x + intercept - residual)
        high.append(slope * x + intercept + residual)
    slope, intercept = np.polyfit(xs, ys, 1)
    expected = slope * x + intercept, sorted(low)[int(alpha * 24) - 1], sorted(high)[int(np.ceil((1 - alpha) * 24)) - 1]
    np.testing.assert_allclose(interval(x, xs, ys, level=0.8), expected)


@pytest.mark.parametrize("curve", [lambda x: 2 * x, lambda x: np.sin(8 * x)])
def test_intervals_cover_new_points_also_where_the_line_is_wrong(curve) -> None:
    generator = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        xs = generator.uniform(size=31)
        ys = curve(xs) + 0.3 * generator.standard_t(3, size=31)
        _, low, high = interval(xs[-1], xs[:-1], ys[:-1], level=0.8)
        covered.append(low <= ys[-1] <= high)
    assert 0.74 < np.mean(covered) < 0.9


def test_a_constant_predictor_forecasts_the_mean_and_few_points_give_no_bound() -> None:
    estimate, low, high = interval(0.5, np.full(4, 0.5), np.array([0.0, 1.0, 2.0, 3.0]), level=0.9)
    assert (estimate, low, high) == (1.5, -np.inf, np.inf)
    with pytest.raises(UsageError, match="at least three"):
        interval(0.5, np.zeros(2), np.zeros(2))


def test_record_round_trip_and_forecast(tmp_path: Path) -> None:
    made = record()
    made.save(tmp_path / "leave_one_out.json")
    read = Record.load(tmp_path / "leave_one_out.json")
    assert (read.bank, read.settings, read.ids) == (made.bank, made.settings, made.ids)
    np.testing.assert_allclose(read.p_values, made.p_values, atol=1e-6)
    assert list(read.gains) == ["exact_match", "loss"]
    found = read.forecast(0.5)
    assert found["loss"] == {"estimate": 0.5, "low": 0.5, "high": 0.5}
    assert found["exact_match"]["low"] < found["exact_match"]["estimate"] < found["exact_match"]["high"]


@pytest.mark.parametrize("content", ["", "{}", '{"format": 1, "tasks": []}', '{"format": 9, "tasks": []}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "leave_one_out.json"
    path.write_text(content)
    with pytest.raises(BankError, match=r"leave_one_out\.json"):
        Record.load(path)


def test_a_record_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    made = record()
    made.gains["loss"][3] = np.nan
    made.save(tmp_path / "leave_one_out.json")
    with pytest.raises(BankError, match="holds NaN"):
        Record.load(tmp_path / "leave_one_out.json")
