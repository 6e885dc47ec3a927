"""`lorameta.json` beside an adapter: what PEFT's files cannot hold, and PEFT does not need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorameta.data.template import PromptTemplate
from lorameta.files import json_text

FILE = "lorameta.json"
FORMAT = 1
#: Bytes of a file that is read. A prompt template is a few hundred, what is said of a source about two hundred.
LARGEST = 1 << 20
#: What is kept of a source: its rows, their licence, and those of an adapter that came from the Hub.
SOURCE = ("task", "licence", "source", "hub")


def metadata_bytes(report: Mapping[str, Any]) -> bytes | None:
    """Return the content of the file for an adapter's report; None if there is nothing to keep."""
    template = PromptTemplate.from_dict(report.get("prompt"))
    content = {"format": FORMAT, **({} if template is None else {"prompt": template.as_dict()})}
    if isinstance(text := report.get("prompt_template"), str) and text:
        content["prompt_template"] = text
    if sources := _sources(report.get("sources")):
        # Whoever trains the adapter further makes a work that derives from the same sources.
        content["sources"] = sources
    if len(content) == 1:
        return None
    data = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    return data if len(data) <= LARGEST else metadata_bytes({**report, "sources": None})


def read_metadata(directory: Path) -> dict[str, Any]:
    """Return what the file says, as parts of an adapter's report; a missing or foreign file says nothing."""
    content = json_text.read_object(directory / FILE, LARGEST)
    if content is None or content.get("format") != FORMAT:
        return {}
    template = PromptTemplate.from_dict(content.get("prompt"))
    found: dict[str, Any] = {} if template is None else {"prompt": template.as_dict()}
    if isinstance(text := content.get("prompt_template"), str) and text.count("{input}") == 1:
        found["prompt_template"] = text
    if sources := _sources(content.get("sources")):
        found["sources"] = sources
    return found


def _sources(given: object) -> dict[str, Any]:
    """Return the sources of a mixture with what is kept of each; what is not of the right shape is left out."""
    if not isinstance(given, dict):
        return {}
    return {
        str(name): {key: value for key in SOURCE if _plain(value := source.get(key))}
        for name, source in given.items()
        if isinstance(source, dict)
    }


def _plain(value: object) -> bool:
    """Check whether this is a text, or texts by name."""
    inside = value.values() if isinstance(value, dict) else [value]
    return bool(value) and all(isinstance(one, str) for one in inside)
