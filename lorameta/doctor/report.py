"""`Report`: what was found, for machines and for whoever prints it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lorameta.base_model.shape import Outline
from lorameta.machine.disk import Disk
from lorameta.machine.machine import Machine
from lorameta.machine.probe import Probe
from lorameta.machine.speed import HeadProbe, Speed


@dataclass(frozen=True)
class Mode:
    """One way to do something with the base.

    Attributes
    ----------
    dtype : str
        Of the base's weights; "" where none are needed.
    checkpointing : bool
        Whether layers are computed twice to save memory.
    needed : int
        Bytes.
    parts : dict of str to int
        What they are for.
    fits : bool
        Whether so much is available.
    seconds : dict of str to float
        ``token`` and ``prompt``, or ``step``; empty where nothing was measured.
    """

    dtype: str
    checkpointing: bool
    needed: int
    parts: dict[str, int]
    fits: bool
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Capability:
    """What the machine is asked for.

    Attributes
    ----------
    name : {"generate", "run", "refine"}
    modes : tuple of Mode
        All that were looked at.
    best : Mode or None
        The quickest that fits; None if none does.
    verdict : str
        One line.
    """

    name: str
    modes: tuple[Mode, ...]
    best: Mode | None
    verdict: str


@dataclass(frozen=True)
class Report:
    """What a machine can do for a base.

    Attributes
    ----------
    machine : Machine
    disk : Disk
    base : Outline
    settings : dict
        ``rank``, ``targets``, ``batch_size``, ``length``, ``answers`` (tokens of a step that are answers),
        ``adapters`` (that are mixed) and their ``adapter_numbers``.
    sizes : dict of str to int
        Bytes of the base by ``float32``, ``bfloat16``, ``q8_0``, ``q4_k_m``.
    runtime : int
        Bytes of a process with torch, transformers and PEFT before it loads a model.
    busy : float or None
        Share of the processor that others used right before the measuring.
    speed : Speed or None
    probes : dict of str to Probe
        By dtype; empty where nothing was measured.
    heads : dict of str to HeadProbe
    capabilities : dict of str to Capability
    faster : dict of str to float
        ``token`` and ``step``: seconds in float32 over seconds in bfloat16.
    advice : tuple of str
        What to change, where something does not fit or is set wrongly.
    notes : tuple of str
        What the estimates were made from, and what limits them.
    seconds : float
        That the examination took.
    """

    machine: Machine
    disk: Disk
    base: Outline
    settings: dict[str, Any]
    sizes: dict[str, int]
    runtime: int
    busy: float | None
    speed: Speed | None
    probes: dict[str, Probe]
    heads: dict[str, HeadProbe]
    capabilities: dict[str, Capability]
    faster: dict[str, float]
    advice: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; of the base without its configuration."""
        found = asdict(self)
        del found["base"]["config"]
        found["disk"]["slow"] = self.disk.slow
        return found | {"seconds": round(self.seconds, 2)}
