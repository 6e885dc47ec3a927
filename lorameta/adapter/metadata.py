"""`lorameta.json` beside an adapter: what PEFT's files have no place for, and what is well without."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorameta.data import PromptTemplate
from lorameta.files import json_text

FILE = "lorameta.json"
FORMAT = 1
#: Bytes of a file that is read; a prompt template is a few hundred.
LARGEST = 1 << 20


def metadata_bytes(report: Mapping[str, Any]) -> bytes | None:
    """Return the content of the file for an adapter's report; None if there is nothing to keep."""
    template = PromptTemplate.from_dict(report.get("prompt"))
    content = {"format": FORMAT, **({} if template is None else {"prompt": template.as_dict()})}
    if isinstance(text := report.get("prompt_template"), str) and text:
        content["prompt_template"] = text
    if len(content) == 1:
        return None
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def read_metadata(directory: Path) -> dict[str, Any]:
    """Return what the file says, as parts of an adapter's report; a missing or foreign file says nothing."""
    path = directory / FILE
    try:
        if path.stat().st_size > LARGEST:
            return {}
        content = json_text.read(path)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return {}
    template = PromptTemplate.from_dict(content.get("prompt"))
    found: dict[str, Any] = {} if template is None else {"prompt": template.as_dict()}
    if isinstance(text := content.get("prompt_template"), str) and text.count("{input}") == 1:
        found["prompt_template"] = text
    return found
