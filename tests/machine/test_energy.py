"""The energy meter against counters written by hand."""

from __future__ import annotations

from lorameta.machine.energy import EnergyMeter


def test_packages_are_added_their_parts_are_not_and_a_counter_may_begin_again(tmp_path):
    for name, start in (("intel-rapl:0", 1_000_000), ("intel-rapl:1", 9_000_000), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{start}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("10000000\n")
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("3500000\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("500000\n")
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("9999999\n")
    assert meter.joules() == 2.5 + 1.5


def test_a_machine_that_does_not_tell_says_none(tmp_path):
    assert EnergyMeter(tmp_path / "nowhere").joules() is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert EnergyMeter(tmp_path).joules() is None
