"""The shape of the code: files that can be read in one sitting, and no room that swallows the others."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import lorameta

PACKAGE = Path(lorameta.__file__).parent
REPOSITORY = Path(__file__).parents[1]


def lines_by_file(folder: Path) -> dict[Path, int]:
    return {path.relative_to(folder): len(path.read_text("utf-8").splitlines()) for path in folder.rglob("*.py")}


@pytest.mark.parametrize("folder", [PACKAGE, REPOSITORY / "tests", REPOSITORY / "benchmarks"], ids=lambda one: one.name)
def test_no_file_is_longer_than_320_lines(folder):
    lines = lines_by_file(folder)
    assert len(lines) > 10
    assert {str(path): count for path, count in lines.items() if count > 320} == {}


def test_no_room_holds_more_than_15_percent_of_the_package():
    rooms: Counter[str] = Counter()
    for path, lines in lines_by_file(PACKAGE).items():
        rooms[path.parts[0]] += lines
    assert len(rooms) > 20
    total = sum(rooms.values())
    assert {room: lines for room, lines in rooms.items() if lines > 0.15 * total} == {}


def test_no_two_public_classes_have_one_name():
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for name in re.findall(r"^class ([A-Z]\w*)", path.read_text("utf-8"), re.MULTILINE):
            found.setdefault(name, set()).add(str(path.relative_to(PACKAGE)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


#: Names with an underscore that other libraries made public, and what has no other name.
KNOWN = {"_exit", "_fields", "_replace", "_forward_hooks", "_attn_implementation"}


def private_names(path: Path) -> set[str]:
    """What a test reads of others by a private name; its own `self._x` is its own matter."""
    tree = ast.parse(path.read_text("utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        ):
            found.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            found |= {one.value.rpartition(".")[2] for one in node.args[:2]
                      if isinstance(one, ast.Constant) and isinstance(one.value, str)}  # fmt: skip
    return {name for name in found if re.match(r"_[a-zA-Z]", name)} - KNOWN


def test_tests_use_no_private_names():
    tests = Path(__file__).parent
    found = {str(path.relative_to(tests)): names for path in tests.rglob("*.py") if (names := private_names(path))}
    assert found == {}
