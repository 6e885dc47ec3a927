"""The prose of the package and the documents: no word of a private dialect, docstrings that begin with a verb."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "lorameta").rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Words that meant something here alone → what is written in their place. In other senses some are ordinary English:
#: room on a disk, the pieces into which a tokenizer takes words apart, what somebody takes, uses or needs.
PRIVATE = {
    r"shel(f|ves)": "reader of adapters",
    r"(a|the|every|per) takes?|taking in": "import",
    r"(a|the|each|every|this|which|other|same|of) rooms?": "package, or memory plan",
    r"rooms": "package",
    r"ha(s|ve) (a|no) place|a place in memory": "fits in memory",
    r"(a|the|each) moving": "move",
    r"(a|the|of) doubles": "duplicates",
    r"sweeps?|swept|sweeping": "delete",
    r"(a|the) (uses|need)": "capability",
    r"(?<!word )pieces?": "part, chunk or file",
    r"sittings?": "run",
    r"but for (?!the reason)": "except for",
    r"anew": "again",
    r"the way back": "inverse",
    r"husks?": "empty tensors",
    r"(nats|tokens|bytes|MB|operations|rows|seconds) an? (second|token|step|epoch|row|core)": "per",
}
#: What a docstring of a function that returns something begins with in the place of a verb.
NO_VERBS = ("What", "Whether", "Where", "How", "Why", "Which", "The", "A", "An")


@cache
def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("words", PRIVATE, ids=PRIVATE.values())
def test_no_private_words(words):
    pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}:{line}: {match[0]!r}; write: {PRIVATE[words]}"
        for file in (*MODULES, *DOCUMENTS)
        for line, text in enumerate(lines(file), 1)
        for match in pattern.finditer(text)
        if "results.md" not in file.name or "|" not in text  # tables of results, whose labels are those of their files
    ]
    assert not found, "\n".join(found)


def summaries(file: Path) -> Iterator[tuple[str, str]]:
    """Function → the first line of its docstring; properties and context managers, which are nouns, are left out."""
    for node in ast.walk(ast.parse("\n".join(lines(file)))):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            nouns = [ast.unparse(one) for one in node.decorator_list]
            nothing = node.returns is None or ast.unparse(node.returns) == "None"
            if not nothing and not any(one.endswith(("property", "contextmanager")) for one in nouns):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", text.splitlines()[0]


def test_docstrings_begin_with_a_verb():
    found = [f"{where}: {text}" for file in MODULES for where, text in summaries(file) if text.split()[0] in NO_VERBS]
    assert not found, "\n".join(found)
