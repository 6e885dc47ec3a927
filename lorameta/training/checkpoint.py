"""`CheckpointFolder`: what a run that may be killed keeps to go on from: JSON and safetensors, no pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lorameta.adapter import Adapter, peft_format
from lorameta.base_model.load import base_fingerprint
from lorameta.data import Example
from lorameta.data.split import Parts
from lorameta.errors import UsageError
from lorameta.files import tensors
from lorameta.files.atomic import write_file
from lorameta.files.resumable import ResumableFolder
from lorameta.training.options import RefineSettings
from lorameta.training.plan import TrainingPlan

PLAN, STATE = "run.json", "state.safetensors"
#: Parts of the state by parameter: itself, AdamW's moments, and its value in the best state.
PARTS = ("now", "first", "second", "best")
#: Raised whenever the same rows and settings would give other numbers: checkpoints of before are then no use.
ENGINE = 2


@dataclass
class TrainingState:
    """Where a training is, without its tensors.

    Attributes
    ----------
    step : int
        Steps made.
    tokens : int
        Tokens trained on.
    elapsed : float
        Seconds of training, those of earlier runs included.
    history : list of (int, float)
        Step and validation loss in nats per token.
    best_step : int
    recent : list of float
        Losses of the last steps, by which divergence is noticed.
    seconds_a_token : float
        Of the last steps.
    next_evaluation : int
        Number of the evaluation that comes next, counted from 1.
    """

    step: int = 0
    tokens: int = 0
    elapsed: float = 0.0
    history: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    recent: list[float] = field(default_factory=list)
    seconds_a_token: float = 0.0
    next_evaluation: int = 1


class CheckpointFolder(ResumableFolder):
    """The folder of a run.

    Parameters
    ----------
    folder : path
        Made when it is needed.
    key : str
        Of rows, base, start and settings: whatever decides the result. A folder with another one is refused.
    """

    def __init__(self, folder: Path, key: str) -> None:
        super().__init__(folder)
        self.key = key

    def plan(self) -> TrainingPlan | None:
        """Return the plan of the run that is in the folder; None if there is none.

        Raises
        ------
        UsageError
            It is another run, or the folder is damaged.
        """
        path = self.folder / PLAN
        found = self.stored(PLAN, self.key)
        try:
            if found is not None:
                return TrainingPlan.from_dict(found["plan"])
            if not path.exists():
                return None
            json.loads(path.read_bytes())["key"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} cannot be read ({type(error).__name__}); start over with --fresh") from None
        raise UsageError(
            f"{self.folder} holds a run that was not finished, with other rows, settings or another base; give the "
            "same command again to go on with it, or start over with --fresh"
        )

    def begin(self, plan: TrainingPlan) -> None:
        """Note what was decided, so that a later run decides the same."""
        self.store(PLAN, self.key, {"plan": plan.as_dict()})

    def save(self, state: TrainingState, tensors: dict[str, Any]) -> None:
        """Put a checkpoint in the place of the last one."""
        from safetensors.torch import save

        write_file(self.folder / STATE, save(tensors, metadata={"state": json.dumps(asdict(state))}))

    def load(self) -> tuple[TrainingState, dict[str, Any]] | None:
        """Return the last checkpoint; None if there is none.

        Raises
        ------
        UsageError
            It is damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = self.folder / STATE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                content = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            content["history"] = [(int(step), float(loss)) for step, loss in content["history"]]
            return TrainingState(**content), tensors
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"the checkpoint {path} cannot be read ({error}); start over with --fresh") from error

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def key_of(parts: Parts, base: str, revision: str | None, settings: RefineSettings, start: Adapter | None) -> str:
    """Return what decides the result of a run, in one hash; how often it is saved, and with how many threads, does
    not."""
    beside = ("save_minutes", "save_steps", "threads")
    adapter = ""
    if start is not None:
        adapter = hashlib.sha256(tensors.to_bytes(peft_format.weight_arrays(start.modules))).hexdigest()
    content = {
        "engine": ENGINE,
        "rows": [[_rows(parts.train), _rows(parts.validation)]],
        "base": base_fingerprint(base, revision),
        "settings": {k: v for k, v in settings.as_dict().items() if k not in beside},
        "start": adapter,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _rows(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.input, example.output]).encode())
    return digest.hexdigest()
