"""The first changes of CONTRIBUTING.md, made in a copy of the package: a new file, a line in another, and no third.

What is written here is what a newcomer writes; then the command line of the copy has it, in every place.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lorameta

PACKAGE = Path(lorameta.__file__).parent
TESTS = Path(__file__).parent

HELLINGER = '''
"""The Hellinger distance of token histograms."""

from __future__ import annotations

import numpy as np

from lorameta.distance.densities import as_counts, densities, on_token_counts
from lorameta.distance.registry import Distance
from lorameta.encoder.counts import TokenCounts


def hellinger(target: np.ndarray, bank: TokenCounts | np.ndarray) -> np.ndarray:
    """Compute √(½ Σ (√p − √q)²), which is √(1 − Σ √(p q)) and exactly 0 between equals."""
    q = np.sqrt(densities(as_counts(bank, target).toarray(), 0.0).reshape(-1, len(target)))
    return np.sqrt(np.square(q - np.sqrt(densities(target, 0.0))).sum(axis=1) / 2)


HELLINGER = Distance(
    "hellinger", "tokens", on_token_counts(hellinger), metric=True, doc="Hellinger distance of their tokens"
)
'''

VERTICAL = '''
"""Paragraphs of `key: value` lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from lorameta.data.problems import Problems


def vertical_rows(text: TextIO, problems: Problems) -> Iterator[tuple[int, object]]:
    """Yield a row for each paragraph."""
    row: dict[str, str] = {}
    for number, line in enumerate([*text, ""], 1):
        key, colon, value = line.partition(":")
        if not line.strip():
            if row:
                yield number - len(row), row
            row = {}
        elif colon:
            row[key.strip()] = value.strip()
        else:
            problems.add(number, "no colon in the line", "A line is `key: value`.")
'''

NPZ = '''
"""The factors of an adapter as an archive of numpy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lorameta.adapter import Adapter
from lorameta.export.result import Exported
from lorameta.files.atomic import fresh_file


def export_npz(
    adapter: Adapter | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
) -> Exported:
    """Write A and B, scaled, of every module."""
    found = adapter if isinstance(adapter, Adapter) else Adapter.from_pretrained(adapter)
    arrays = {f"{name}.A": pair.A for name, pair in found.modules.items()}
    arrays |= {f"{name}.B": pair.scaling * pair.B for name, pair in found.modules.items()}
    target = Path(output)
    with fresh_file(target) as fresh, fresh.open("wb") as file:
        np.savez(file, **arrays)
    return Exported(target, "npz", str(base or found.base_model), "f32", len(found.modules), target.stat().st_size, 0.0)
'''


class Copy:
    """The package as a newcomer has it in a clone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(PACKAGE, root / "lorameta", ignore=shutil.ignore_patterns("__pycache__", "adapter_bank"))
        self.before = self.files()

    def files(self) -> dict[str, str]:
        return {str(path.relative_to(self.root)): path.read_text("utf-8") for path in self.root.rglob("*.py")}

    def add(self, file: str, content: str, edited: str, *changes: tuple[str, str]) -> None:
        """Write the new file, and change lines of another, each of which is there once."""
        (self.root / "lorameta" / file).write_text(content.lstrip(), "utf-8")
        path = self.root / "lorameta" / edited
        text = path.read_text("utf-8")
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path.write_text(text, "utf-8")
        now = self.files()
        assert {name for name in now if now[name] != self.before.get(name)} == {
            f"lorameta/{file}",
            f"lorameta/{edited}",
        }

    def python(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=self.root, env=os.environ | {"PYTHONPATH": str(self.root)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def lorameta(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "lorameta", *words, code=code)


@pytest.fixture
def copy(tmp_path) -> Copy:
    return Copy(tmp_path / "clone")


def test_a_distance(copy, tiny_bank, tiny_rows):
    copy.add("distance/hellinger.py", HELLINGER, "distance/__init__.py", ('"mmd"),', '"mmd", "hellinger"),'))
    assert "mmd, hellinger (on tokens)" in " ".join(copy.lorameta("generate", "--help").stdout.split())
    words = ("--bank", tiny_bank, "--distance", "hellinger", "--fast")
    done = json.loads(copy.lorameta("generate", tiny_rows, "-o", copy.root / "out", *words, "--json").stdout)
    assert done["distance"] == "hellinger"
    assert min(done["distances"], key=done["distances"].get) == "animal_sound"
    assert max(done["distances"].values()) <= 1
    assert "the Hellinger distance of their tokens (hellinger)" in copy.lorameta("explain", tiny_rows, *words).stdout
    # The tests of all distances take it up by themselves.
    for part in ("conftest.py", "distance"):
        source, target = TESTS / part, copy.root / "tests" / part
        shutil.copytree(source, target) if source.is_dir() else (target.parent.mkdir(), shutil.copy(source, target))
    options = ["-q", "-c", os.devnull, "--rootdir", copy.root, "--import-mode=importlib", "-p", "no:cacheprovider"]
    names = ["tests/distance/test_distances.py", "-k", "hellinger or registry"]
    said = copy.python("-m", "pytest", *options, *names).stdout
    assert "failed" not in said
    assert int(said.split(" passed")[0].split()[-1]) > 8


def test_a_file_format(copy, tiny_bank, tiny_rows):
    copy.add(
        "data/formats/vertical.py", VERTICAL, "data/files.py",
        ('    ".pq": "parquet",\n', '    ".pq": "parquet",\n    ".vert": "vertical",\n'),
        ("from lorameta.data.problems import", "from lorameta.data.formats.vertical import vertical_rows\n"
         "from lorameta.data.problems import"),
        ("        if kind in _SEPARATORS:\n            yield",
         "        if kind == \"vertical\":\n            yield from vertical_rows(text, problems)\n"
         "        elif kind in _SEPARATORS:\n            yield"),
    )  # fmt: skip
    rows = [json.loads(line) for line in tiny_rows.read_text("utf-8").splitlines()]
    rows = [{"ask": row["input"].split("Input: ")[1].split("\n")[0], "output": row["output"]} for row in rows]
    text = "\n".join("".join(f"{key}: {value}\n" for key, value in row.items()) for row in rows)
    (copy.root / "a.vert.gz").write_bytes(gzip.compress(text.encode("utf-16")))
    words = ("explain", "a.vert.gz", "--encoding", "utf-16", "--input-column", "ask", "--bank", tiny_bank, "--fast")
    assert "Read 12 rows of a.vert.gz: prompt from ask, answer from output" in copy.lorameta(*words).stderr
    (copy.root / "b.vert").write_text(f"{text}\ninput: c\noutput\n")
    damaged = copy.lorameta("explain", "b.vert", "--input-column", "ask", "--bank", tiny_bank, code=2).stderr
    assert f"b.vert:{3 * len(rows) + 2}: no colon in the line" in damaged


def test_an_export_target(copy, tiny_bank):
    copy.add("export/npz.py", NPZ, "export/__init__.py",
             ('    "ollama": ', '    "npz": "an archive of numpy with the factors",\n    "ollama": '))  # fmt: skip
    assert "npz: an archive of numpy with the factors." in " ".join(copy.lorameta("export", "--help").stdout.split())
    adapter = tiny_bank / "adapters" / "opposite"
    told = copy.lorameta("export", adapter, "--format", "npz", "-o", copy.root / "a.npz").stdout
    assert "a.npz" in told
    assert "AutoModel" not in told  # how a merged model is loaded
    expected = lorameta.Adapter.from_pretrained(adapter).modules
    with np.load(copy.root / "a.npz") as found:
        assert len(found.files) == 2 * len(expected)
        for name, pair in expected.items():
            np.testing.assert_allclose(found[f"{name}.B"] @ found[f"{name}.A"], pair.delta(), rtol=1e-5, atol=1e-6)
