"""The examination as a whole: what it measures on small bases, its verdicts and advice on machines of every size."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("transformers")

from lorameta.bank import AdapterBank
from lorameta.base_model.shape import outline
from lorameta.doctor import examination, examine
from lorameta.errors import UsageError
from lorameta.report.doctor import examined
from tests.doctor.configs import CONFIGS, mistral_7b
from tests.doctor.judging import GB, RUNTIME


@pytest.fixture(autouse=True)
def small_samples(monkeypatch):
    """The disk and the matrices are measured with less than usual, the rest as ever."""
    monkeypatch.setattr("lorameta.machine.disk.SAMPLE", 32 << 20)
    monkeypatch.setattr("lorameta.machine.speed.BUFFER", 16 << 20)
    monkeypatch.setattr("lorameta.machine.speed.SIDE", 256)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_is_measured(name, tmp_path):
    CONFIGS[name]().save_pretrained(tmp_path)
    report = examine(tmp_path, rank=4, length=48, batch_size=2, seconds=0.4)
    assert set(report.probes) == set(report.heads) == {"bfloat16", "float32"}, report.notes
    for found in report.probes.values():
        assert found.share == 1
        assert found.token > 0
        assert found.kept_per_token > 0
    assert all(found.best is not None and found.verdict.startswith("yes") for found in report.capabilities.values())
    modes = [mode for mode in report.capabilities["refine"].modes if mode.dtype == "float32"]
    step = {mode.checkpointing: mode.seconds["step"] for mode in modes}
    assert step[True] > step[False] > 0
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["settings"]["batch_size"] == 2
    text = examined(report)
    assert report.base.architecture in text
    assert all(capability.verdict.split(":")[0] in text for capability in report.capabilities.values())


def test_quick_measures_nothing(tmp_path, monkeypatch):
    def measured(*_, **__):
        raise AssertionError("something was measured")

    monkeypatch.setattr("lorameta.machine.probe.probe", measured)
    monkeypatch.setattr("lorameta.machine.speed.speed", measured)
    monkeypatch.setattr("lorameta.machine.disk.read_speed", measured)
    CONFIGS["llama"]().save_pretrained(tmp_path)
    report = examine(tmp_path, quick=True)
    assert report.probes == {}
    assert report.disk.read is None
    assert report.capabilities["run"].best.seconds == {}
    assert "not timed" in examined(report)


def test_the_banks_base_and_targets_are_the_default(tiny_bank):
    report = examine(bank=tiny_bank, quick=True)
    bank = AdapterBank.open(tiny_bank)
    assert report.base.name == bank.base_model
    assert report.base.targets == ("k_proj", "q_proj", "v_proj")
    assert report.settings["adapters"] == len(bank)
    assert report.settings["adapter_numbers"] == next(iter(map(bank.__getitem__, bank))).num_parameters


def test_a_base_that_does_not_run_alone_is_still_weighed(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("this layer needs something else\nand more")

    monkeypatch.setattr("lorameta.machine.probe.probe", fails)
    CONFIGS["llama"]().save_pretrained(tmp_path)
    report = examine(tmp_path)
    assert report.probes == {}
    assert sum("was not measured" in note and "needs something else" in note for note in report.notes) == 2
    assert report.capabilities["run"].best.needed > report.sizes[report.capabilities["run"].best.dtype]


@pytest.mark.parametrize(
    "options", [{"rank": 0}, {"batch_size": 0}, {"length": 4}, {"targets": ("nothing",)}, {"targets": ()}]
)
def test_numbers_that_cannot_work_are_refused(tmp_path, options):
    CONFIGS["llama"]().save_pretrained(tmp_path)
    with pytest.raises(UsageError):
        examine(tmp_path, quick=True, **options)


def test_times_are_shared_out_by_what_has_a_place():
    shape = outline(mistral_7b(), "m", None, ("all-linear",), 16)
    for available in (60 * GB, 20 * GB, 5 * GB):
        shares = examination.time_shares(shape, RUNTIME, 512, available)
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["bfloat16"] >= shares["float32"]
