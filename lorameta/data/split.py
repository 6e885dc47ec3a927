"""Which rows a run trains on, chooses its epoch by, and is tested on: decided by a hash of the row alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from lorameta.data import Example
from lorameta.errors import DataError

#: Percent of the rows that are trained on, and those with the validation rows; the rest are test rows.
TRAIN, VALIDATION = 80, 88


@dataclass(frozen=True)
class Parts:
    """The rows of a dataset in three parts; no row is in two of them, however often it is repeated.

    Attributes
    ----------
    train, validation, test : tuple of Example
        In the order of their hashes. `test` may be empty.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of rows by part."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def part_of(example: Example) -> str:
    """`train` (80 %), `validation` (8 %) or `test` (12 %), from prompt and first answer: nobody can move a row."""
    bucket = int.from_bytes(digest_of(example)[:4], "big") % 100
    return "train" if bucket < TRAIN else "validation" if bucket < VALIDATION else "test"


def split_examples(examples: Iterable[Example]) -> Parts:
    """Split rows by :func:`part_of`; neither their order nor other rows decide where one goes.

    The one exception are datasets so small that no row falls to training or to validation: then the first row, by its
    hash, of the largest part goes there, with all its copies.

    Raises
    ------
    DataError
        There are fewer than two different rows.
    """
    keyed = by_digest(examples)
    parts: dict[str, list[bytes]] = {"train": [], "validation": [], "test": []}
    for digest in sorted(keyed):
        parts[part_of(keyed[digest][0])].append(digest)
    for name in ("train", "validation"):
        if not parts[name]:
            donor = max(parts, key=lambda part: (len(parts[part]), part == "test"))
            parts[name].append(parts[donor].pop(0))
    return Parts(**{name: tuple(row for digest in digests for row in keyed[digest]) for name, digests in parts.items()})


def by_digest(examples: Iterable[Example]) -> dict[bytes, list[Example]]:
    """Return the rows by their hash, copies together; DataError if fewer than two differ."""
    keyed: dict[bytes, list[Example]] = {}
    for example in examples:
        keyed.setdefault(digest_of(example), []).append(example)
    if len(keyed) < 2:
        raise DataError(
            f"{len(keyed)} different row{'' if len(keyed) == 1 else 's'}: training needs one to learn from and another "
            "to choose the best state by; give a few dozen"
        )
    return keyed


def digest_of(example: Example) -> bytes:
    """Return what decides the place of a row: a hash of prompt and first answer."""
    return hashlib.sha256(f"{example.input}\x00{example.output}".encode("utf-8", "surrogatepass")).digest()
