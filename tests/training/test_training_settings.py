"""Hyperparameters: wrong ones are refused together, and the learning rate follows its rule."""

from __future__ import annotations

import pytest

from lorameta.errors import UsageError
from lorameta.training import LoraTraining


def test_everything_that_cannot_work_is_said_at_once():
    with pytest.raises(UsageError) as error:
        LoraTraining(rank=0, alpha=-1, targets=(), learning_rate=float("nan"), epochs=0, dropout=1.0, dtype="float16")
    for word in ("rank", "alpha", "targets", "learning_rate", "epochs", "dropout", "dtype"):
        assert f"{word} " in str(error.value)


def test_all_linear_stands_alone():
    with pytest.raises(UsageError, match="stands alone"):
        LoraTraining(targets=("all-linear", "q_proj"))


def test_settings_that_say_the_same_are_equal():
    assert LoraTraining(targets=("b", "a", "a"), alpha=4) == LoraTraining(targets=("a", "b"), alpha=4.0)


@pytest.mark.parametrize(("width", "rate"), [(4096, 2.86e-4), (2000, 5e-4), (256, 2.49e-3)])
def test_default_rate_falls_with_the_width(width, rate):
    assert LoraTraining().rate(width) == pytest.approx(rate, rel=0.01)
    assert LoraTraining(learning_rate=1e-3).rate(width) == 1e-3


@pytest.mark.parametrize("steps", [1, 3, 9, 40, 1000])
def test_the_rate_rises_then_falls_to_nothing(steps):
    settings = LoraTraining(warmup_steps=20)
    factors = [settings.factor(step, steps) for step in range(steps)]
    top = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert settings.warm_up(steps) <= steps / 10
    assert settings.factor(steps, steps) == pytest.approx(0, abs=1e-12)
