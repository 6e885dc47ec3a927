"""The miniature bank as repositories of a Hub: its base, its adapters, and the datasets behind them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.hub.server import Hub

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
#: What `push_to_hub` of `datasets` writes into a card, as in Lots-of-LoRAs.
CARD = {
    "dataset_info": {
        "features": [
            {"name": "id", "dtype": "string"},
            {"name": "input", "dtype": "string"},
            {"name": "output", "sequence": "string"},
        ],
        "splits": [{"name": "train"}],
    },
    "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
}


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def lol_rows(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Rows in the form of Lots-of-LoRAs: an id, and a list of outputs."""
    return [{"id": f"row-{i}", "input": row["input"], "output": [row["output"]]} for i, row in enumerate(rows)]


def add_base(hub: Hub, author: str, bank: Path) -> str:
    files = {path.name: path.read_bytes() for path in (bank / "base").iterdir()}
    hub.add("models", f"{author}/base", files, {"license": "apache-2.0"})
    return f"{author}/base"


def add_adapter(hub: Hub, author: str, task: str, bank: Path, **changes: Any) -> str:
    """The adapter of a task, its configuration changed in some places."""
    folder = bank / "adapters" / task
    config = {**json.loads((folder / CONFIG).read_bytes()), "base_model_name_or_path": f"{author}/base", **changes}
    files = {CONFIG: json.dumps(config).encode(), WEIGHTS: (folder / WEIGHTS).read_bytes()}
    card = {"base_model": f"{author}/base", "library_name": "peft", "datasets": [f"{author}/{task}"], "license": "mit"}
    hub.add("models", f"{author}/lora-{task}", files, card)
    return f"{author}/lora-{task}"


def add_dataset(hub: Hub, author: str, task: str, rows: list[dict[str, Any]], card: Mapping[str, Any] = CARD) -> str:
    data = {"data/train-00000-of-00001.parquet": parquet(rows)} if rows else {}
    hub.add("datasets", f"{author}/{task}", data, {"license": "cc-by-4.0", **card})
    return f"{author}/{task}"
