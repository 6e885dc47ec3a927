"""The plan of a run: its steps, its time, and its budget."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.errors import LorametaError
from lorameta.training import engine, finetune, loop, prepared
from tests.training.refining import FAST, ROWS


def test_a_time_budget_is_kept_within_one_step(where, given, monkeypatch):
    """By a clock that moves by a tenth of a second a step and two a measurement, however busy the machine is."""
    budget, clock = 3.0, [0.0]

    def takes(name, seconds):
        method = getattr(engine.Engine, name)

        def timed(self, *arguments):
            clock[0] += seconds
            return method(self, *arguments)

        monkeypatch.setattr(engine.Engine, name, timed)

    with prepared(ROWS, where, FAST | {"steps": None, "minutes": budget / 60}, start=given) as job:
        assert job.plan.steps is None
        job.spent = 0.5
        monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
        takes("train", 0.1)
        takes("measure", 0.2)
        about = job.run().report["refinement"]
    assert about["seconds"] == pytest.approx(0.5 + clock[0])
    assert budget - 0.3 < about["seconds"] <= budget + 0.1
    assert about["steps"] == round((clock[0] - 0.2 * len(about["history"])) / 0.1) > 5


def test_no_time_for_a_step_is_refused(where):
    with pytest.raises(LorametaError, match=r"minutes are too few: a step takes"):
        finetune(ROWS, where, settings=FAST | {"steps": None, "minutes": 1e-7})


def test_the_plan_says_what_will_happen(where, given):
    with prepared(ROWS, where, FAST | {"steps": None, "epochs": 2}, start=given) as job:
        plan = job.plan
        done = job.run()
    assert (plan.rows, plan.held_out) == (30, 10)
    assert plan.steps == plan.expected_steps == 2 * math.ceil(30 / 8) == done.report["refinement"]["steps"]
    assert plan.parameters == sum(pair.A.size + pair.B.size for pair in given.modules.values())
    assert plan.memory > 0
    assert plan.available > plan.memory
    assert plan.seconds > 0
    assert 2 * plan.tokens == done.report["refinement"]["tokens"]
