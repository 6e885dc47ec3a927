"""What to change: only what the numbers show to help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lorameta.base_model.shape import Outline, outline
from lorameta.doctor.report import Capability, Mode
from lorameta.machine import memory
from lorameta.machine.disk import Disk
from lorameta.machine.machine import Machine, thread_problem
from lorameta.machine.probe import Probe
from lorameta.machine.units import gigabytes, numbers, seconds

#: Layers of attention to which an adapter is narrowed first, in the names of common families.
_NARROW = frozenset({"q_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv"})
#: Seconds per token from which on one waits for an answer; below, it comes faster than it is read.
SLOW = 0.1
#: Bytes of llama.cpp itself, its buffers included.
_LLAMA = 400_000_000
#: A base with fewer parameters is hardly worth proposing.
_SMALLEST = 100_000_000


def advise(
    machine: Machine,
    disk: Disk,
    base: Outline,
    settings: Mapping[str, Any],
    sizes: Mapping[str, int],
    capabilities: Mapping[str, Capability],
    probes: Mapping[str, Probe],
    bandwidth: float | None,
    *,
    local: bool,
) -> list[str]:
    """Sentences, the most pressing first; empty where all is well.

    Parameters
    ----------
    bandwidth : float or None
        Bytes of memory read a second.
    local : bool
        Whether the base's weights are on this machine already.

    The others are parts of a :class:`lorameta.doctor.report.Report`.
    """
    found = []
    if problem := thread_problem(machine):
        found.append(f"Threads: {problem}.")
    found += _memory(machine, capabilities)
    found += _running(machine, base, settings, sizes, capabilities["run"], bandwidth)
    found += _refining(machine, base, settings, capabilities["refine"], probes)
    published = sizes.get(base.dtype, sizes["bfloat16"])
    if not local and published > disk.free:
        found.append(
            f"Disk: the weights are {gigabytes(published)}, and {gigabytes(disk.free)} are free in {disk.path}; free "
            "some, or put the Hub's cache on another disk (HF_HOME)."
        )
    if disk.slow and disk.read and published / disk.read > 30:
        found.append(
            f"Disk: {disk.path} reads {disk.read / 1e6:.0f} MB per second, so that loading the base takes "
            f"{seconds(published / disk.read)}; keep it on a faster disk."
        )
    return found


def _memory(machine: Machine, capabilities: Mapping[str, Capability]) -> Iterator[str]:
    """Yield where it would do to stop what else is running, or to allow more."""
    missing = [capability for capability in capabilities.values() if capability.best is None]
    if not missing:
        return
    least = {capability.name: min(mode.needed for mode in capability.modes) for capability in missing}
    whole = machine.memory if machine.limit is None else machine.limit
    would = [name for name, needed in least.items() if needed <= 0.95 * whole]
    if would:
        used = whole - machine.available
        yield f"Memory: {gigabytes(used)} are in use by other programs; without them there is enough to {_both(would)}."
    beyond = [name for name, needed in least.items() if name not in would and needed <= 0.9 * machine.memory]
    if machine.limit is not None and beyond:
        yield (
            f"Memory: this container may use {gigabytes(machine.limit)} of the machine's {gigabytes(machine.memory)}; "
            f"allow it {gigabytes(max(least[name] for name in beyond) * 1.1)} to {_both(beyond)}."
        )


def _running(
    machine: Machine,
    base: Outline,
    settings: Mapping[str, Any],
    sizes: Mapping[str, int],
    run: Capability,
    speed: float | None,
) -> Iterator[str]:
    cache = base.layers * base.cache_per_token * min(settings["length"], base.window or settings["length"]) * 2
    for name in ("q8_0", "q4_k_m"):
        if sizes[name] + cache + _LLAMA > machine.available:
            continue
        needed = f"{gigabytes(sizes[name] + cache + _LLAMA)} of memory"
        best = "" if speed is None else f", and at best {seconds(sizes[name] / speed)} a token (reading it once)"
        how = "with the adapter from `lorameta export ADAPTER --format gguf`"
        if run.best is None:
            yield f"Run: llama.cpp with the base as {name.upper()} {how} needs {needed}{best}."
            return
        slow = run.best.seconds.get("token")
        if name == "q4_k_m" and slow and slow > SLOW and speed and sizes[name] / speed < 0.5 * slow:
            yield f"Run: {seconds(slow)} a token is slow; llama.cpp with the base as Q4_K_M {how} needs {needed}{best}."
    if run.best is None:
        yield from _smaller("Run", machine, base, run)


def _refining(
    machine: Machine, base: Outline, settings: Mapping[str, Any], refine: Capability, probes: Mapping[str, Probe]
) -> Iterator[str]:
    if refine.best is not None:
        return
    least = min(refine.modes, key=lambda mode: mode.needed)
    free, batch, length = machine.available, settings["batch_size"], settings["length"]

    def needed(base: Outline, batch: int, length: int) -> int:
        runtime = least.parts["programs"]
        probe = probes.get(least.dtype)
        return memory.to_refine(base, least.dtype, batch, length, runtime, probe, checkpointing=True).total

    helped = False
    if batch > 1 and (total := needed(base, 1, length)) <= free:
        helped = True
        yield f"Refine: one row at a time, with accumulated gradients, needs {gigabytes(total)}."
    shorter = max((n for n in range(32, length, 32) if needed(base, 1, n) <= free), default=None)
    if shorter is not None and needed(base, 1, length) > free:
        helped = True
        total = needed(base, 1, shorter)
        yield f"Refine: rows of at most {shorter} tokens need {gigabytes(total)}."
    narrow = tuple(name for name in base.targets if name in _NARROW)
    if narrow and narrow != base.targets:
        fewer = outline(base.config, base.name, base.revision, narrow, settings["rank"])
        fewer = replace(base, adapter_parameters=fewer.adapter_parameters)
        if (total := needed(fewer, batch, length)) <= free:
            helped = True
            yield f"Refine: an adapter on {', '.join(narrow)} alone needs {gigabytes(total)}."
    if not helped:
        yield from _smaller("Refine", machine, base, refine)


def _smaller(what: str, machine: Machine, base: Outline, capability: Capability) -> Iterator[str]:
    """Yield how large a base may be, everything beside the weights shrinking with it."""
    least: Mode = min(capability.modes, key=lambda mode: mode.needed)
    fixed = least.parts["programs"]
    share = (machine.available - fixed) / (least.needed - fixed)
    if (most := share * base.parameters) >= _SMALLEST:
        yield f"{what}: a base of the same kind with up to about {numbers(most)} parameters fits, in {least.dtype}."


def _both(names: list[str]) -> str:
    return " and ".join(names)
