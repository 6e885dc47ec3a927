"""The documentation site builds, and a link that leads nowhere fails the build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
for _name in ("mkdocs", "material", "mkdocstrings", "nbconvert"):
    pytest.importorskip(_name)


def build(site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_site_builds_with_notebooks_and_api(tmp_path):
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "docs" / "api.html").read_text(encoding="utf-8")
    assert "½ KL" in api
    assert list((tmp_path / "notebooks").glob("01_first_adapter*"))
    assert (tmp_path / "benchmarks" / "results" / "refine.png").is_file()
    assert "http://" not in (tmp_path / "index.html").read_text(encoding="utf-8").split("</head>")[0]


def test_the_pages_of_the_menu_exist():
    import yaml

    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = {page for entry in menu for page in entry.values()}
    assert {page for page in pages if not (ROOT / page).is_file()} == set()
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= pages
