"""Verdicts and advice for Mistral-7B on machines of any size, with made-up times: 10 ms per layer and token."""

from __future__ import annotations

from dataclasses import replace

from lorameta.base_model.shape import outline
from lorameta.doctor.advice import advise
from lorameta.doctor.quantized import sizes
from lorameta.doctor.verdicts import judge
from lorameta.machine import machine, memory, probe
from lorameta.machine.disk import Disk
from lorameta.machine.speed import HeadProbe
from lorameta.machine.timing import Line
from tests.doctor.configs import mistral_7b

GB = 10**9
RUNTIME = GB // 2
MACHINE = machine.Machine("x", 4, 4, 4, 0.0, 64 * GB, 60 * GB, None, (), "AVX2", "none")
DISK = Disk("/", 500 * GB, 500 * GB, 10**9)


def judged(gigabytes: float, *, length: int = 512, batch: int = 1, timed: bool = True, **changes):
    """Verdicts and advice for Mistral-7B."""
    shape = outline(mistral_7b(), "mistralai/Mistral-7B-v0.1", None, ("all-linear",), 16)
    line = Line((probe.work(shape, 16), probe.work(shape, 512)), (0.1, 2.0))
    probes, heads = {}, {}
    for dtype, slow in (("bfloat16", 1.0), ("float32", 2.0)) if timed else ():
        kept = 312_000 if dtype == "bfloat16" else 354_000
        scaled = line.scaled(slow)
        probes[dtype] = probe.Probe(dtype, 1, 1.0, 0.01 * slow, 0, scaled, scaled.scaled(0.5), scaled, 0, kept, 512)
        heads[dtype] = HeadProbe(dtype, 1.0, 0.01 * slow, Line((16.0, 128.0), (0.1, 0.4)))
    settings = {
        "rank": 16, "targets": list(shape.targets), "batch_size": batch, "length": length, "adapters": 20,
        "answers": memory.answers_of(batch, length), "adapter_numbers": shape.adapter_parameters,
    }  # fmt: skip
    found = replace(MACHINE, available=int(gigabytes * GB), **changes)
    verdicts = judge(shape, settings, RUNTIME, found.available, probes, heads)
    bytes_of = {"float32": 4 * shape.parameters, "bfloat16": 2 * shape.parameters} | sizes(shape.blocks)
    return verdicts, advise(found, DISK, shape, settings, bytes_of, verdicts, probes, 20e9, local=True), shape
