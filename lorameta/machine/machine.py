"""The machine: processor, threads, memory, and what is set wrongly."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorameta.combiner.parallel import cores
from lorameta.machine.cgroups import read_limits

#: Flags of /proc/cpuinfo that decide how fast matrices are multiplied, x86 and Arm.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16", "svebf16")
#: What sets the number of threads before a process starts.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Machine:
    """What a process of this machine has at its disposal.

    Attributes
    ----------
    processor : str
    physical_cores : int
        Of the machine; hyper-threads are not counted.
    usable_cores : float
        Those that this process may run on: affinity and the quota of its container counted.
    threads : int
        That torch computes with.
    load : float or None
        Mean number of processes that wanted to run in the last minute, this one included.
    memory, available : int
        Bytes: of the machine, and what a new process can have of it now, without swap.
    limit : int or None
        Bytes that a container allows, where it does not allow all.
    flags : tuple of str
        Of `FLAGS`; empty where the system does not tell (macOS, Windows).
    capability : str
        What torch chose its kernels for: ``AVX512``, ``AVX2``, ``DEFAULT``, ...
    bfloat16 : {"AMX", "AVX512_BF16", "Arm BF16", "none", "unknown"}
        The instructions that multiply bfloat16.
    """

    processor: str
    physical_cores: int
    usable_cores: float
    threads: int
    load: float | None
    memory: int
    available: int
    limit: int | None
    flags: tuple[str, ...]
    capability: str
    bfloat16: str

    @property
    def right_threads(self) -> int:
        """As many threads as physical cores that the process may use."""
        return max(1, min(self.physical_cores, math.ceil(self.usable_cores)))


def look(root: Path = Path("/")) -> Machine:
    """Read it all from the system; nothing is measured."""
    import psutil
    import torch

    limits = read_limits(root)
    memory = psutil.virtual_memory()
    available = memory.available if limits.memory_left is None else min(memory.available, limits.memory_left)
    limit = limits.memory if limits.memory is not None and limits.memory < memory.total else None
    info = _cpuinfo(root)
    flags = tuple(flag for flag in FLAGS if flag in info["flags"])
    usable = cores()
    return Machine(
        processor=info["name"] or platform.processor() or platform.machine(),
        physical_cores=psutil.cpu_count(logical=False) or usable,
        usable_cores=min(usable, limits.cores) if limits.cores else usable,
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        memory=memory.total,
        available=available,
        limit=limit,
        flags=flags,
        capability=torch.backends.cpu.get_cpu_capability(),
        bfloat16=_bfloat16(flags, bool(info["flags"])),
    )


def thread_problem(machine: Machine, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return what is wrong with the number of threads, and what to do; None if nothing is."""
    right = machine.right_threads
    named = [f"{name}={environment[name]}" for name in THREAD_VARIABLES if environment.get(name)]
    cause = f" ({', '.join(named)})" if named else ""
    if machine.threads < right:
        remedy = "unset it, or set it to" if len(named) == 1 else "set OMP_NUM_THREADS to"
        return f"torch computes with {machine.threads} of {right} cores{cause}; {remedy} {right}"
    if machine.threads > math.ceil(machine.usable_cores):
        return (
            f"torch computes with {machine.threads} threads on {machine.usable_cores:g} cores{cause}, which slows it "
            f"down; set OMP_NUM_THREADS to {right}"
        )
    return None


def _cpuinfo(root: Path) -> dict[str, Any]:
    """Name and flags of the first processor in /proc/cpuinfo; empty elsewhere than on Linux."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = fields.get("flags") or fields.get("features") or ""
    return {"name": fields.get("model name", ""), "flags": frozenset(flags.split())}


def _bfloat16(flags: tuple[str, ...], known: bool) -> str:
    if "amx_bf16" in flags:
        return "AMX"
    if "avx512_bf16" in flags:
        return "AVX512_BF16"
    if "bf16" in flags or "svebf16" in flags:
        return "Arm BF16"
    return "none" if known else "unknown"
