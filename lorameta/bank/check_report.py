"""What a check of a bank found, in a form for people and for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class CheckReport:
    """What a check found.

    Attributes
    ----------
    problems : list of str
        What makes the bank, or a part of it, unusable.
    warnings : list of str
        What is odd and may be meant.
    adapters, bytes : int
        How much was read.
    notes : list of str
        What is good to know.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    adapters: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem; there may be warnings."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"ok": self.ok, **asdict(self)}
