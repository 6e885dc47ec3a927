"""What a killed run finds again: what was kept whole and under the same key, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lorameta.errors import LorametaError
from lorameta.files.resumable import ResumableFolder


def test_what_was_kept_is_found_under_its_key_alone(tmp_path):
    folder = ResumableFolder(tmp_path / "work")
    assert folder.stored("a.json", "k") is None
    key = {"rows": ("x", 1), "rate": 0.1}  # a tuple is a list in JSON, and still the same key
    kept = folder.store("a.json", key, {"loss": 0.1, "steps": (1, 2)})
    assert kept == {"loss": 0.1, "steps": [1, 2]}
    assert ResumableFolder(tmp_path / "work").stored("a.json", key) == kept
    assert folder.stored("a.json", {**key, "rate": 0.2}) is None
    assert folder.stored("b.json", key) is None
    folder.store("a.json", "other", {"loss": 1})
    assert folder.stored("a.json", key) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"loss": 1}', b"[" * 100_000, b"\xff"])
def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path, damage):
    folder = ResumableFolder(tmp_path)
    folder.store("a.json", "k", {"loss": 1})
    (tmp_path / "a.json").write_bytes(damage)
    assert folder.stored("a.json", "k") is None
    assert folder.store("a.json", "k", {"loss": 2}) == folder.stored("a.json", "k")


def test_a_second_process_is_kept_out(tmp_path):
    code = (
        "import sys; from pathlib import Path; from lorameta.files.resumable import ResumableFolder\n"
        "with ResumableFolder(Path(sys.argv[1])).alone('busy'): print('in')"
    )
    folder = ResumableFolder(tmp_path / "work")
    with folder.alone("busy"):
        other = subprocess.run([sys.executable, "-c", code, folder.folder], capture_output=True, text=True)
        assert "LorametaError: busy" in other.stderr
    assert subprocess.run([sys.executable, "-c", code, folder.folder], capture_output=True, text=True).stdout == "in\n"


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LorametaError, match="cannot write to"), ResumableFolder(tmp_path / "file" / "work").alone(""):
        pass
