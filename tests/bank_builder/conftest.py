"""A folder with adapters, datasets and a base, as one would have them before there is a bank."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import TASKS, task_rows

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def parts(tiny_bank, tmp_path) -> Path:
    """A folder with `adapters`, `datasets` and `base`, as one would have them."""
    folder = tmp_path / "parts"
    shutil.copytree(tiny_bank / "base", folder / "base")
    (folder / "datasets").mkdir()
    for task in TASKS:
        shutil.copytree(tiny_bank / "adapters" / task, folder / "adapters" / task)
        path = folder / "adapters" / task / CONFIG
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "base_model_name_or_path": str(folder / "base")}))
        lines = [json.dumps(row) for row in task_rows(task)]
        (folder / "datasets" / f"{task}.jsonl").write_text("\n".join(lines))
    return folder
