"""A page in the browser, served to this machine alone: rows in, an adapter out, questions, downloads."""

from __future__ import annotations

from lorameta.ui.serve import serve

__all__ = ["serve"]
