"""The bad rows of one dataset, collected and told all at once."""

from __future__ import annotations

from lorameta.errors import DataError, violations


class Problems:
    """The bad rows of one dataset. Equal complaints are counted, so that ten million of them take no memory.

    Parameters
    ----------
    name : str
        Of the dataset, for the heading.
    place : str
        What stands before the number of the line or row; may be changed while rows are read.
    """

    def __init__(self, name: str, place: str) -> None:
        self.name = name
        self.place = place
        self.count = 0
        self._found: dict[str, tuple[list[int], list[str]]] = {}  # message: ([how often], the first places)
        self._hints: dict[str, None] = {}
        self.doubts: dict[str, list[str]] = {}  # message: the first places; what is read, and may be meant otherwise

    def doubt(self, line: int, message: str) -> None:
        """Note that the row at `line` is used, but may not be what it seems."""
        places = self.doubts.setdefault(message, [])
        if len(places) < 6:
            places.append(f"{self.place}{line}")

    def add(self, line: int, message: str, hint: str = "") -> None:
        """Note that the row at `line` cannot be used."""
        self.count += 1
        if message in self._found or len(self._found) < 1000:
            count, places = self._found.setdefault(message, ([0], []))
            count[0] += 1
            if len(places) < 6:
                places.append(f"{self.place}{line}")
        if hint and len(self._hints) < 20:
            self._hints[hint] = None

    def raise_if_any(self) -> None:
        """Raise a DataError that lists all of them."""
        if not self.count:
            return
        errors = []
        for message, ((count,), (first, *others)) in self._found.items():
            shown = [place.removeprefix(self.place) for place in others]
            also = f" (also at {', '.join(shown)}" if others else ""
            also += f" and {count - 1 - len(others)} more" if count > 1 + len(others) else ""
            errors.append(f"{first}: {message}{also}{')' if also else ''}")
        if self.count == 1:
            heading = f"1 row of {self.name} cannot be used:"
        else:
            heading = f"{self.count} rows of {self.name} cannot be used:"
        raise DataError(violations(errors, heading, "\n".join(self._hints)))
