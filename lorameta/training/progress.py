"""What a training tells while it runs: to whoever watches, and as JSON lines in a file."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any, TextIO

from lorameta.errors import LorametaError
from lorameta.files.links import reason, user_path


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes
    ----------
    step : int
    steps : int or None
        None where the time alone decides.
    used : float
        Share of the budget that is used up, in [0, 1].
    loss : float or None
        Mean loss of the last steps in nats an answer token; None before the first.
    validation, best : float or None
        Last and smallest loss on the held-out rows.
    best_step : int
    tokens_a_second : float
    memory : int
        Bytes of the process now.
    left : float
        Seconds that it will still take.
    """

    step: int
    steps: int | None
    used: float
    loss: float | None
    validation: float | None
    best: float | None
    best_step: int
    tokens_a_second: float
    memory: int
    left: float


class Log:
    """A file of JSON lines, one an event; None writes nothing.

    Raises
    ------
    LorametaError
        The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.file: TextIO | None = None
        if path is not None:
            place = user_path(path)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                self.file = place.open("a", encoding="utf-8")
            except OSError as error:
                raise LorametaError(f"cannot write the log {place}: {reason(error)}") from error

    def write(self, event: str, **facts: Any) -> None:
        """One line, on the disk at once."""
        if self.file is None:
            return
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}
        self.file.write(json.dumps({"event": event, **clean}) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()
