"""The page does nothing that a user could not do: it calls what the documents name as the API."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import lorameta

ROOT = Path(__file__).parents[2]


def documented() -> set[str]:
    """Modules and names of docs/api.md, and what the package itself exports."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^::: ([\w.]+)$", text, re.M))
    return named | {f"lorameta.{name}" for name in lorameta.__all__}


def test_the_page_calls_the_public_api_only():
    public = documented()
    private = []
    for file in sorted((ROOT / "lorameta" / "ui").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("lorameta."):
                continue
            home = str(node.module)
            if home.startswith("lorameta.ui"):
                continue
            for alias in node.names:
                value = getattr(import_module(home), alias.name)
                own = f"{getattr(value, '__module__', home)}.{getattr(value, '__qualname__', alias.name)}"
                names = {f"{home}.{alias.name}", own, f"lorameta.{alias.name}", home}
                if not names & public:
                    private.append(f"{file.name}: {home}.{alias.name}")
    assert private == []
