"""Energy of the processors, where the machine counts it (RAPL, by way of Linux' powercap)."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules that the processor packages took since the meter was made: of the whole machine, not of one process.

    Parameters
    ----------
    powercap : path
        Where the counters are.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        # Packages are intel-rapl:0, intel-rapl:1, ...; what has a second colon is a part of one of them.
        zones = sorted(powercap.glob("*-rapl:*")) if powercap.is_dir() else []
        self._zones = [zone for zone in zones if zone.name.count(":") == 1]
        self._start = [_counter(zone, "energy_uj") for zone in self._zones]

    def joules(self) -> float | None:
        """Return the energy so far; None where the machine does not tell it, or only to its administrator."""
        found = 0.0
        for zone, start in zip(self._zones, self._start, strict=True):
            now = _counter(zone, "energy_uj")
            if now is None or start is None:
                return None
            if now < start:  # the counter began again
                now += _counter(zone, "max_energy_range_uj") or 0
            found += (now - start) / 1e6
        return round(found, 2) if self._zones else None


def _counter(zone: Path, name: str) -> int | None:
    try:
        return int((zone / name).read_text())
    except (OSError, ValueError):
        return None
