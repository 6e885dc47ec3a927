"""Whether the machine can generate, run and refine, by which way best, and in one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorameta.base_model.load import LARGE
from lorameta.base_model.shape import Outline
from lorameta.doctor import estimate
from lorameta.doctor.report import Capability, Mode
from lorameta.machine import memory
from lorameta.machine.probe import Probe
from lorameta.machine.speed import HeadProbe
from lorameta.machine.units import gigabytes, seconds

DTYPES = ("bfloat16", "float32")


def judge(
    outline: Outline,
    settings: Mapping[str, Any],
    runtime: int,
    available: int,
    probes: Mapping[str, Probe],
    heads: Mapping[str, HeadProbe],
) -> dict[str, Capability]:
    """Return all capabilities with all their modes; see :class:`lorameta.doctor.report.Report` for `settings`."""
    length, batch = settings["length"], settings["batch_size"]
    mixing = memory.to_mix(outline, settings["adapters"], settings["adapter_numbers"])
    generate = Mode("", False, mixing.total, mixing.parts, mixing.total <= available)
    run, refine = [], []
    for dtype in DTYPES:
        probe, head = probes.get(dtype), heads.get(dtype)
        needed, taken = memory.to_run(outline, dtype, length, runtime, probe), {}
        if probe and head:
            taken = {
                "token": estimate.token_seconds(outline, probe, head, length),
                "prompt": estimate.prompt_seconds(outline, probe, head, length),
            }
        run.append(Mode(dtype, False, needed.total, needed.parts, needed.total <= available, taken))
        for again in (False, True):
            needed = memory.to_refine(outline, dtype, batch, length, runtime, probe, checkpointing=again)
            taken = {}
            if probe and head:
                taken["step"] = estimate.step_seconds(outline, probe, head, batch, length, checkpointing=again)
            refine.append(Mode(dtype, again, needed.total, needed.parts, needed.total <= available, taken))
    return {
        "generate": _use("generate", [generate], outline, settings, available),
        "run": _use("run", run, outline, settings, available),
        "refine": _use("refine", refine, outline, settings, available),
    }


def _use(name: str, modes: list[Mode], outline: Outline, settings: Mapping[str, Any], available: int) -> Capability:
    fitting = [mode for mode in modes if mode.fits]
    usual = "float32" if outline.parameters < LARGE else "bfloat16"  # what is taken where nothing was measured

    def preference(mode: Mode) -> tuple[float, bool, bool, int]:
        time = mode.seconds.get("step", mode.seconds.get("token", float("inf")))
        return time, mode.dtype != usual, mode.checkpointing, mode.needed

    best = min(fitting, key=preference, default=None)
    if best is None:
        least = min(modes, key=lambda mode: mode.needed)
        how = f" ({_how(least)})" if least.dtype else ""
        return Capability(
            name, tuple(modes), None,
            f"no: {gigabytes(least.needed)} are needed{how}, {gigabytes(available)} are available",
        )  # fmt: skip
    share = f"{gigabytes(best.needed)} of {gigabytes(available)}"
    if name == "generate":
        mixed = f"mixing {settings['adapters']} adapters" if settings["adapters"] > 1 else "one adapter"
        verdict = f"yes: {mixed} takes at most about {share}; the base is not read for it"
    elif name == "run":
        time = "not timed"
        if best.seconds:
            pace, prompt = seconds(best.seconds["token"]), seconds(best.seconds["prompt"])
            time = f"{pace} a token, {prompt} for a prompt of {settings['length']} tokens"
        verdict = f"yes, {_how(best)}: {time}; {share}"
    else:
        rows = f"{settings['batch_size']} × {settings['length']} tokens"
        time = f"{seconds(best.seconds['step'])} a step of {rows}" if best.seconds else f"a step of {rows}, not timed"
        verdict = f"yes, {_how(best)}: {time}; {share}"
    return Capability(name, tuple(modes), best, verdict)


def _how(mode: Mode) -> str:
    return f"in {mode.dtype}" + (" with gradient checkpointing" if mode.checkpointing else "")
