"""Whether a training fits in memory, in which precision, and which smaller choice would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from lorameta.base_model.load import LARGE
from lorameta.base_model.shape import Outline
from lorameta.errors import LorametaError, violations
from lorameta.machine import memory
from lorameta.machine.machine import look
from lorameta.machine.units import gigabytes, numbers
from lorameta.training.options import RefineSettings
from lorameta.training.plan import USABLE

#: A base with fewer parameters is hardly worth proposing.
_SMALLEST = 100_000_000


@dataclass(frozen=True)
class DtypeChoice:
    """How a base is to be loaded.

    Attributes
    ----------
    precision : str
    compare : bool
        Whether the other precision fits as well and should be measured.
    why : str
    """

    precision: str
    compare: bool
    why: str


def available() -> int:
    """Return the bytes that this process may still take; the limit of a container counted."""
    return look().available


def needed(outline: Outline, dtype: str, tokens: int, runtime: int, *, checkpointing: bool) -> int:
    """Return the bytes of a training with `tokens` tokens in memory at once, from the shape of the base."""
    return memory.to_refine(outline, dtype, 1, tokens, runtime, None, checkpointing=checkpointing).total


def choose(
    outline: Outline, settings: RefineSettings, tokens: int, runtime: int, free: int, bfloat16: str
) -> DtypeChoice:
    """Return the precision to load a base in.

    Parameters
    ----------
    outline : Outline
    settings : RefineSettings
    tokens : int
        In memory at once.
    runtime : int
        Bytes of the process now.
    free : int
        Bytes that it may still take.
    bfloat16 : str
        Instructions that the processor has for it, see :class:`lorameta.machine.machine.Machine`.

    Raises
    ------
    LorametaError
        No allowed precision fits, even with gradient checkpointing; what would fit is named.
    """
    least = settings.checkpointing is not False
    fits = {
        dtype: needed(outline, dtype, tokens, runtime, checkpointing=least) - runtime <= USABLE * free
        for dtype in ("float32", "bfloat16")
    }
    if settings.precision != "auto":
        if not fits[settings.precision]:
            refuse(outline, settings, tokens, runtime, free)
        return DtypeChoice(settings.precision, False, "as asked for")
    if not any(fits.values()):
        refuse(outline, settings, tokens, runtime, free)
    if not fits["float32"]:
        slow = ", although the processor has no instructions for it" if bfloat16 == "none" else ""
        return DtypeChoice("bfloat16", False, f"float32 does not fit{slow}")
    if bfloat16 == "none":
        return DtypeChoice("float32", False, "the processor has no instructions for bfloat16")
    usual = "float32" if outline.parameters < LARGE else "bfloat16"
    return DtypeChoice(usual, True, "measured")


def refuse(outline: Outline, settings: RefineSettings, tokens: int, runtime: int, free: int) -> NoReturn:
    """Raise, with every smaller choice that would fit.

    Raises
    ------
    LorametaError
        Always.
    """
    dtype = "float32" if settings.precision == "float32" else "bfloat16"
    least = needed(outline, dtype, tokens, runtime, checkpointing=settings.checkpointing is not False) - runtime
    remedies = list(_smaller(outline, settings, dtype, tokens, runtime, USABLE * free))
    raise LorametaError(
        violations(
            remedies or ["nothing smaller fits here"],
            f"the training does not fit: {outline.name} needs {gigabytes(least)} in {dtype}, and {gigabytes(free)} are "
            "available. What would fit:",
        )
    )


def _smaller(
    outline: Outline, settings: RefineSettings, dtype: str, tokens: int, runtime: int, free: float
) -> Iterator[str]:
    """From the least change to the largest; each names all that it takes."""
    changes, words = [], []
    if settings.checkpointing is False:
        changes.append("gradient checkpointing")
        words.append("without --no-checkpointing")
        if (size := needed(outline, dtype, tokens, runtime, checkpointing=True) - runtime) <= free:
            yield f"gradient checkpointing ({gigabytes(size)}): leave --no-checkpointing out"
    if dtype == "float32":
        changes.append("bfloat16")
        words.append("--precision bfloat16")
        if (size := needed(outline, "bfloat16", tokens, runtime, checkpointing=True) - runtime) <= free:
            yield f"{' and '.join(changes)} ({gigabytes(size)}): {' '.join(words)}"
    sizes = {
        n: needed(outline, "bfloat16", n, runtime, checkpointing=True) - runtime for n in (1024, 512, 256, 128, 64)
    }
    shorter = next((n for n, size in sizes.items() if n < tokens and size <= free), None)
    if shorter is not None:
        change = ", ".join([*changes, f"rows of at most {shorter} tokens"])
        yield f"{change} ({gigabytes(sizes[shorter])}): {' '.join([*words, f'--max-length {shorter}'])}"
    share = free / max(1, needed(outline, "bfloat16", min(tokens, 512), runtime, checkpointing=True) - runtime)
    if share < 1 and share * outline.parameters >= _SMALLEST:
        yield f"a base of the same kind with up to about {numbers(share * outline.parameters)} parameters"
