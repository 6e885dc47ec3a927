"""The learning curves of every start, task by task: `results/refine.png` and those of other banks."""

from __future__ import annotations

from typing import Any

from benchmarks.common import RESULTS
from benchmarks.refine.quality import FULL, RUNS
from lorameta.figures.axes import COLOURS, pyplot

#: End of the name of a run that gets all steps of the full fine-tune.
ALL = ", all steps"


def figure(quality: dict[str, Any], called: str) -> None:
    """Curves of each task, and how far the median of all is."""
    tasks = quality["tasks"]
    columns = 4
    count = -(-len(tasks) // columns)
    fig, grid = pyplot().subplots(
        count, columns, figsize=(3.1 * columns, 2.3 * count + 0.6), squeeze=False, layout="constrained"
    )
    for ax, (name, task) in zip(grid.flat, tasks.items(), strict=False):
        short = [name for name in RUNS if RUNS[name].share < 1 and name in task["runs"]]
        colours = {FULL: COLOURS[6]} | dict(zip(short, COLOURS, strict=False))
        for start in (name for name in (FULL, *RUNS) if name in task["runs"]):
            curve = task["runs"][start]["curve"]
            ax.plot(
                [max(point["cpu"], 0.1) for point in curve], [point["loss"] for point in curve],
                color=colours[start.removesuffix(ALL)], label=None if start.endswith(ALL) else start, linewidth=1.2,
                marker=".", markersize=3, linestyle="--" if start == FULL else ":" if start.endswith(ALL) else "-",
            )  # fmt: skip
        ax.axhline(task["runs"][FULL]["curve"][-1]["loss"], color=COLOURS[6], linewidth=0.5)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(name, fontsize=8)
        ax.tick_params(which="both", labelsize=6)
    for ax in list(grid.flat)[len(tasks) :]:
        ax.set_visible(False)
    fig.supxlabel("CPU seconds, what generating took included", fontsize=9)
    fig.supylabel("loss on test rows, nats a token", fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=6, fontsize=8, frameon=False)
    fig.savefig(RESULTS / f"{called}.png", dpi=110)
