"""Every command of docs/lots-of-loras.md, against the Hub on loopback with the small base in Mistral's place."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from lorameta.adapter import Adapter
from tests.conftest import TASKS
from tests.hub.transport import TOKEN

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "lots-of-loras.md").read_text(encoding="utf-8")
BLOCKS = [
    [line[2:] for line in block.splitlines()] for block in re.findall(r"```console\n(.+?)```", PAGE, flags=re.DOTALL)
]


def test_the_commands_of_the_page_run(lorameta, author, rows, tmp_path):
    """From an empty cache; the preset is an author of the loopback Hub, the rest is as it is written."""
    pytest.importorskip("gguf")
    author.fill()
    shutil.copy(rows, tmp_path / "tickets.jsonl")
    walk, shared = BLOCKS
    assert [shlex.split(line)[0] for line in walk] == ["pip", *["lorameta"] * 4, "llama-server"]
    places = {
        "mistralai/Mistral-7B-Instruct-v0.2": author.base,
        "--preset lots-of-loras": f"my-bank --hub-author {author.name} --base {author.base}",
        "--bank lots-of-loras": "--bank my-bank",
        "AUTHOR/BANK": f"{author.name}/shared",
        "ME/": f"{author.name}/my-",
        "MY-BANK": "my-bank",
    }

    def run(line: str) -> None:
        for written, here in places.items():
            line = line.replace(written, here)
        words = shlex.split(line)[1:]
        words += ["--quick"] if words[0] == "doctor" else []
        result = lorameta(*words, HF_TOKEN=TOKEN)
        assert result.code == 0, f"{line}\n{result.err}"

    for line in walk[1:-1]:
        run(line)
    assert (tmp_path / "my-adapter.gguf").stat().st_size > 1000
    weights = Adapter.from_pretrained(tmp_path / "my-adapter")
    assert weights.modules
    fetched = {hit.repo for hit in author.hits if hit.file == "adapter_model.safetensors" and hit.sent}
    assert len(fetched) == len(TASKS)  # fewer than 20
    assert lorameta("bank", "push", "my-bank", f"{author.name}/shared", HF_TOKEN=TOKEN).code == 0
    for line in shared:
        run(line)
    assert author.repo("models", "my-ADAPTER").commits
    assert author.repo("models", "my-BANK").commits
