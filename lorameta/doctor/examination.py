"""`examine`: a base, held against the machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lorameta.base_model import ALL_LINEAR
from lorameta.base_model.config import find_config, libraries
from lorameta.base_model.shape import Outline, outline
from lorameta.doctor import quantized
from lorameta.doctor.advice import advise
from lorameta.doctor.report import Report
from lorameta.doctor.verdicts import DTYPES, judge
from lorameta.errors import UsageError
from lorameta.files.links import user_path
from lorameta.machine import disk as disks
from lorameta.machine import machine as machines
from lorameta.machine import memory
from lorameta.mixing.mix import open_bank
from lorameta.training.settings import LoraTraining

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank
    from lorameta.bank.records import AdapterRecord
    from lorameta.machine.probe import Probe
    from lorameta.machine.speed import HeadProbe

#: Seconds of measuring layers: with the imports, the disk and the head it makes less than 20 on two cores.
SECONDS = 9.0


def examine(
    base: str | os.PathLike[str] | None = None,
    *,
    bank: AdapterBank | str | os.PathLike[str] | None = None,
    revision: str | None = None,
    rank: int = 16,
    targets: tuple[str, ...] | None = None,
    batch_size: int = 1,
    length: int = 512,
    quick: bool = False,
    seconds: float = SECONDS,
    progress: Callable[[str], object] | None = None,
) -> Report:
    """Say what this machine can do for a base: generate adapters, run it, refine an adapter.

    Memory is added up from the shape of the base, which its ``config.json`` decides; no weights are needed. Times are
    measured on some of its layers, in their true shape with random numbers, and on its head, in bfloat16 and in
    float32. No more than a quarter of the available memory is taken for that.

    Parameters
    ----------
    base : str or path, optional
        A Hub id or a directory; by default the base of `bank`.
    bank : AdapterBank, path or str, optional
        Whose adapters are mixed; by default the one that comes with lorameta, if no base is named either.
    revision : str, optional
        Of a base on the Hub.
    rank : int
        Of the adapter that is refined.
    targets : tuple of str, optional
        Layers that it is on; by default those of the bank's adapters, else all linear ones.
    batch_size, length : int
        Rows of a training step and tokens in each; `length` is also that of a prompt with its answer.
    quick : bool
        Measure nothing: memory, processor and free space only.
    seconds : float
        For measuring the layers, about.
    progress : callable, optional
        Called with what is done next.

    Returns
    -------
    Report

    Raises
    ------
    BankError
        The bank or the base's configuration is not to be had.
    UsageError
        The base is no causal language model or has none of the targets, or a number cannot work.
    MissingExtraError
        torch, transformers or PEFT is not installed.
    """
    begun = time.perf_counter()
    say = progress or (lambda doing: None)
    if batch_size < 1 or length < 8:
        raise UsageError(f"batch size {batch_size} and length {length} cannot work; they are at least 1 and 8")
    say("looking at the base")
    opened = None if bank is None and base is not None else open_bank(bank)
    if base is None:
        assert opened is not None  # without either there is the embedded bank
        base, revision = opened.base_model, opened.base_revision
    records = [] if opened is None else list(opened.records.values())
    if targets is None:
        targets = tuple(sorted({target for record in records for target in record.targets})) or (ALL_LINEAR,)
    LoraTraining(rank=rank, alpha=2 * rank, targets=targets)  # refuses what cannot work
    shape = outline(find_config(base, revision), os.fspath(base), revision, targets, rank)
    of_bank = [record.rank for record in records if record.rank]
    settings: dict[str, Any] = {
        "rank": rank,
        "targets": list(shape.targets),
        "batch_size": batch_size,
        "length": length,
        "answers": memory.answers_of(batch_size, length),
        "adapters": _mixed(records),
        "adapter_numbers": round(shape.adapter_parameters / rank * (fmean(of_bank) if of_bank else rank)),
    }
    sizes = {name: shape.parameters * size for name, size in memory.ITEMSIZE.items()} | quantized.sizes(shape.blocks)
    runtime = _runtime()
    machine = machines.look()
    where, local = _place(base, revision)
    if not quick:
        say("reading the disk")
    disk = disks.look(where, measure=not quick)

    probes: dict[str, Probe] = {}
    heads: dict[str, HeadProbe] = {}
    notes: list[str] = []
    speed, busy = None, None
    if not quick:
        import psutil

        from lorameta.machine.speed import speed as measure_speed

        free = machine.available // 4
        busy = psutil.cpu_percent(interval=0.3) / 100
        speed = measure_speed(free)
        for dtype, share in time_shares(shape, runtime, length, machine.available).items():
            say(f"timing layers in {dtype}")
            _measure(shape, dtype, settings, free, share * seconds, probes, heads, notes)
        if not probes:
            runtime = max(runtime, _runtime())
    capabilities = judge(shape, settings, runtime, machine.available, probes, heads)
    faster = _faster(capabilities) if len(probes) == len(DTYPES) else {}
    bandwidth = None if speed is None else speed.memory
    advice = advise(machine, disk, shape, settings, sizes, capabilities, probes, bandwidth, local=local)
    notes = [*_origin(shape, machine, probes, heads, settings, busy, quick), *notes]
    return Report(
        machine=machine, disk=disk, base=shape, settings=settings, sizes=sizes, runtime=runtime, busy=busy, speed=speed,
        probes=probes, heads=heads, capabilities=capabilities, faster=faster, advice=tuple(advice), notes=tuple(notes),
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def _mixed(records: list[AdapterRecord]) -> int:
    """Return how many adapters `generate` mixes by default; without a bank as many as of one on the Hub."""
    from lorameta.mixing.weigh import HUB_TOP_K

    if records and not any(record.hub for record in records):
        return len(records)
    return min(HUB_TOP_K, len(records) or HUB_TOP_K)


def _runtime() -> int:
    """Return the bytes of this process, with everything imported that running and refining import."""
    import psutil

    libraries()
    from peft import LoraConfig, get_peft_model  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    return int(psutil.Process().memory_info().rss)


def _place(base: str | os.PathLike[str], revision: str | None) -> tuple[Path, bool]:
    """Return where the base's weights are or would be, and whether they are there."""
    path = user_path(base)
    if path.is_dir():
        return path.resolve(), any(path.glob("*.safetensors"))
    from huggingface_hub import constants, try_to_load_from_cache

    for name in ("model.safetensors", "model.safetensors.index.json"):
        with contextlib.suppress(ValueError):
            if isinstance(try_to_load_from_cache(os.fspath(base), name, revision=revision), str):
                return Path(constants.HF_HUB_CACHE), True
    return Path(constants.HF_HUB_CACHE), False


def time_shares(shape: Outline, runtime: int, length: int, available: int) -> dict[str, float]:
    """Return how the time is divided among the dtypes: little for one that does not fit in memory."""
    fits = {dtype: memory.to_run(shape, dtype, length, runtime, None).total <= available for dtype in DTYPES}
    if all(fits.values()) or not any(fits.values()):
        return {"bfloat16": 0.6, "float32": 0.4}
    return {"bfloat16": 0.7, "float32": 0.3}


def _measure(
    shape: Outline, dtype: str, settings: dict[str, Any], free: int, seconds: float,
    probes: dict[str, Probe], heads: dict[str, HeadProbe], notes: list[str],
) -> None:  # fmt: skip
    """One probe of the layers and one of the head; why there is none goes into the notes."""
    from lorameta.machine.probe import probe
    from lorameta.machine.speed import probe_head

    try:
        layers = probe(
            shape, dtype, rank=settings["rank"], length=settings["length"], memory=free, seconds=0.85 * seconds
        )
        head = probe_head(shape, dtype, answers=settings["answers"], memory=free, seconds=0.15 * seconds)
    except MemoryError as error:
        notes.append(f"{dtype} was not measured: {error} (a quarter of what is available).")
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, KeyError, IndexError) as error:
        first = next(iter(str(error).splitlines()), "")[:200]
        notes.append(f"{dtype} was not measured: a layer of {shape.architecture} does not run alone here ({first}).")
    else:
        probes[dtype], heads[dtype] = layers, head


def _faster(capabilities: dict[str, Any]) -> dict[str, float]:
    """Return the seconds in float32 over seconds in bfloat16, by the same mode."""
    found = {}
    for key, name in (("token", "run"), ("step", "refine")):
        by = {mode.dtype: mode.seconds[key] for mode in capabilities[name].modes if not mode.checkpointing}
        found[key] = by["float32"] / by["bfloat16"] if by["bfloat16"] > 0 else float("nan")
    return found


def _origin(
    shape: Outline, machine: machines.Machine, probes: dict[str, Probe], heads: dict[str, HeadProbe],
    settings: dict[str, Any], busy: float | None, quick: bool,
) -> list[str]:  # fmt: skip
    """Return what the numbers come from, and how far they are to be trusted."""
    notes = [
        "Memory is computed from the shape of the base and what a layer keeps in training"
        + (", which was measured; expect it to be right within a fifth." if probes else "; it is a rough figure.")
    ]
    if probes:
        parts = [f"{probe.layers} of {shape.layers} layers in {name}" for name, probe in probes.items()]
        notes.append(
            f"Times are those of {' and '.join(parts)}, in their true shape with random weights, and of the head, with "
            f"{machine.threads} thread{'s' * (machine.threads > 1)}; expect them to be right within a factor of 1.5."
        )
        lengths = {probe.longest for probe in probes.values()}
        if min(lengths) < settings["length"]:
            notes.append(
                f"The longest rows that were timed had {' and '.join(map(str, sorted(lengths)))} tokens; times for "
                f"{settings['length']} go on along the line of the last two."
            )
        for name, probe in probes.items():
            if probe.share < 1:
                notes.append(
                    f"In {name} a layer with a narrower MLP was measured ({probe.share:.0%} of its parameters), since "
                    "a whole one takes more than a quarter of the available memory; its times were scaled up."
                )
        notes.append(
            f"Of a training row, {memory.ANSWERS:.0%} of the tokens count as answers: loss and logits are formed for "
            "these alone."
        )
    if busy is not None and busy > 0.25:
        notes.append(f"Other programs used {busy:.0%} of the processor meanwhile; alone it would be faster.")
    if quick:
        notes.append("Nothing was timed; leave --quick out for that.")
    return notes
