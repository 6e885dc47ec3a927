"""What all figures start from: pyplot if it is there, an axes, and colours that everybody can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorameta.errors import UsageError, requires

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe and Ito, Color Universal Design (2008), without the yellow that is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GREY = "#808080"


def pyplot() -> Any:
    """Return the module matplotlib.pyplot; MissingExtraError without it."""
    with requires("matplotlib", "plot", "A figure"):
        import matplotlib.pyplot as module
    return module


def axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """`ax`, or the axes of a new figure of that size in inches."""
    return pyplot().subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def same_length(what: str, count: int, **others: Any) -> None:
    """UsageError unless all of `others` that are given have `count` members."""
    wrong = [f"{len(v)} {name}" for name, v in others.items() if v is not None and len(v) != count]
    if wrong:
        raise UsageError(f"there are {count} {what}, but {', '.join(wrong)}")
