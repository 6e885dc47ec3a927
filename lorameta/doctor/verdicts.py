"""Whether the machine can generate, run and refine, by which way best, and in one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorameta.base_model.load import LARGE
from lorameta.base_model.shape import Outline
from lorameta.doctor import estimate
from lorameta.doctor.report import Use, Way
from lorameta.machine import memory as need
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
) -> dict[str, Use]:
    """All uses with all their ways; see :class:`lorameta.doctor.report.Report` for `settings`."""
    length, batch = settings["length"], settings["batch_size"]
    mixing = need.to_mix(outline, settings["adapters"], settings["adapter_numbers"])
    generate = Way("", False, mixing.total, mixing.parts, mixing.total <= available)
    run, refine = [], []
    for dtype in DTYPES:
        probe, head = probes.get(dtype), heads.get(dtype)
        needed, taken = need.to_run(outline, dtype, length, runtime, probe), {}
        if probe and head:
            taken = {
                "token": estimate.token_seconds(outline, probe, head, length),
                "prompt": estimate.prompt_seconds(outline, probe, head, length),
            }
        run.append(Way(dtype, False, needed.total, needed.parts, needed.total <= available, taken))
        for again in (False, True):
            needed = need.to_refine(outline, dtype, batch, length, runtime, probe, checkpointing=again)
            taken = {}
            if probe and head:
                taken["step"] = estimate.step_seconds(outline, probe, head, batch, length, checkpointing=again)
            refine.append(Way(dtype, again, needed.total, needed.parts, needed.total <= available, taken))
    return {
        "generate": _use("generate", [generate], outline, settings, available),
        "run": _use("run", run, outline, settings, available),
        "refine": _use("refine", refine, outline, settings, available),
    }


def _use(name: str, ways: list[Way], outline: Outline, settings: Mapping[str, Any], available: int) -> Use:
    fitting = [way for way in ways if way.fits]
    usual = "float32" if outline.parameters < LARGE else "bfloat16"  # what is taken where nothing was measured

    def preference(way: Way) -> tuple[float, bool, bool, int]:
        time = way.seconds.get("step", way.seconds.get("token", float("inf")))
        return time, way.dtype != usual, way.checkpointing, way.needed

    best = min(fitting, key=preference, default=None)
    if best is None:
        least = min(ways, key=lambda way: way.needed)
        how = f" ({_how(least)})" if least.dtype else ""
        return Use(
            name, tuple(ways), None,
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
    return Use(name, tuple(ways), best, verdict)


def _how(way: Way) -> str:
    return f"in {way.dtype}" + (" with gradient checkpointing" if way.checkpointing else "")
