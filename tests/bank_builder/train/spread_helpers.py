"""What the workers of the tests do; a module of its own, so that their processes can import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square_or_die(task: tuple[int, str, str]) -> tuple[int, int]:
    """The square of a number and the worker's process; as it is told, the worker is killed first, once or always."""
    number, fate, folder = task
    marker = Path(folder) / f"died-{number}"
    time.sleep(0.05)
    if fate == "always" or (fate == "once" and not marker.exists()):
        marker.touch()
        assert os.getpid() != int(Path(folder, "caller").read_text()), "the work was done in the test's own process"
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "slow":
        Path(folder, f"pid-{number}").write_text(str(os.getpid()))
        deadline = time.monotonic() + 60
        while not Path(folder, "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    return number**2, os.getpid()


def fail(task: object) -> None:
    """An error of the work itself."""
    raise ValueError(f"no {task}")
