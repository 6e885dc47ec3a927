"""The shape of the package: files that can be read in one sitting, and no room that swallows the others."""

from collections import Counter
from pathlib import Path

import lorameta

PACKAGE = Path(lorameta.__file__).parent


def lines_by_file() -> dict[Path, int]:
    return {path.relative_to(PACKAGE): len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}


def test_no_file_is_longer_than_320_lines():
    assert {str(path): lines for path, lines in lines_by_file().items() if lines > 320} == {}


def test_no_room_holds_more_than_15_percent_of_the_package():
    rooms: Counter[str] = Counter()
    for path, lines in lines_by_file().items():
        rooms[path.parts[0]] += lines
    total = sum(rooms.values())
    assert {room: lines for room, lines in rooms.items() if lines > 0.15 * total} == {}
