"""What the tests of building share."""

from __future__ import annotations

from pathlib import Path


def options(parts: Path, **others) -> dict:
    return {"adapters": parts / "adapters", "datasets": parts / "datasets", "base": str(parts / "base"), **others}


def digest(root: Path) -> dict[str, bytes]:
    """Every visible file of a bank."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("[!.]*")) if p.is_file()
            and ".lorameta" not in p.parts}  # fmt: skip
