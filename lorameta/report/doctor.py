"""The examination of a machine in plain text: what it is, what the base takes, a verdict for each capability."""

from __future__ import annotations

import textwrap

from lorameta.doctor.report import Report
from lorameta.machine.units import gigabytes, numbers, seconds
from lorameta.report.mixture import aligned
from lorameta.report.table import table, terminal_width


def examined(report: Report) -> str:
    """Return all of it, as the command line prints it."""
    verdicts = [(name, capability.verdict) for name, capability in report.capabilities.items()]
    parts = [aligned(_facts(report)), _modes(report), aligned(verdicts)]
    if report.advice:
        parts.append(_listed("What would help:", report.advice))
    parts.append(_listed("Where the numbers come from:", report.notes))
    return "\n\n".join(parts)


def _facts(report: Report) -> list[tuple[str, str]]:
    base, machine, disk, sizes = report.base, report.machine, report.disk, report.sizes
    some = "" if machine.usable_cores == machine.physical_cores else f"{machine.usable_cores:g} of "
    cores = f"{some}{machine.physical_cores} cores, {machine.threads} thread{'s' * (machine.threads > 1)}"
    memory = f"{gigabytes(machine.available)} available of {gigabytes(machine.memory)}"
    if machine.limit is not None:
        memory += f"; this container may use {gigabytes(machine.limit)}"
    lines = [
        (
            "Base",
            f"{base.name}: {base.architecture}, {numbers(base.parameters)} parameters in {base.layers} layers",
        ),
        (
            "Size",
            ", ".join(
                f"{gigabytes(sizes[key])} {name}"
                for key, name in (
                    ("float32", "in float32"),
                    ("bfloat16", "in bfloat16"),
                    ("q8_0", "as GGUF Q8_0"),
                    ("q4_k_m", "as Q4_K_M"),
                )
            ),
        ),
        (
            "Adapter",
            f"rank {report.settings['rank']} on {', '.join(base.targets)}: {numbers(base.adapter_parameters)} "
            f"parameters in {base.adapter_layers} layers",
        ),
        ("Processor", f"{machine.processor}, {cores}; {machine.capability}, bfloat16 by {machine.bfloat16}"),
        ("Memory", memory),
        ("Disk", _disk(disk.free, disk.read, disk.slow, disk.path, disk.unmeasured)),
    ]
    if report.speed:
        rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in report.speed.multiply.items())
        lines.append(("Speed", f"memory read at {report.speed.memory / 1e9:.1f} GB/s, matrices multiplied at {rates}"))
    if report.faster:
        what = {"token": "answering", "step": "training"}
        lines.append(
            ("bfloat16 here", "; ".join(f"{what[key]}: {_times(value)}" for key, value in report.faster.items()))
        )
    return lines


def _times(ratio: float) -> str:
    if 0.95 <= ratio <= 1.05:
        return "as fast as float32"
    return f"{ratio:.1f} times as fast as float32" if ratio > 1 else f"{1 / ratio:.1f} times slower than float32"


def _disk(free: int, read: float | None, slow: bool, path: str, unmeasured: str) -> str:
    speed = unmeasured if read is None else f"reads {read / 1e6:,.0f} MB/s" + (", which is slow" if slow else "")
    return f"{gigabytes(free)} free in {path}; {speed}".removesuffix("; ")


def _modes(report: Report) -> str:
    rows = []
    for capability in report.capabilities.values():
        for mode in capability.modes:
            how = (
                "mixing adapters" if not mode.dtype else mode.dtype + (", checkpointing" if mode.checkpointing else "")
            )
            rows.append(
                [
                    capability.name,
                    how,
                    gigabytes(mode.needed),
                    "yes" if mode.fits else "no",
                    *(seconds(mode.seconds[key]) if key in mode.seconds else "" for key in ("token", "prompt", "step")),
                ]
            )
    headers = ["what", "how", "memory", "fits", "a token", "a prompt", "a step"]
    if not report.probes:
        headers, rows = headers[:4], [row[:4] for row in rows]
    return table(headers, rows, align="<<>>>>>"[: len(headers)])


def _listed(heading: str, sentences: tuple[str, ...]) -> str:
    width = terminal_width()
    lines = [
        textwrap.fill(sentence, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        for sentence in sentences
    ]
    return "\n".join([heading, *lines])
