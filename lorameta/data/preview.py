"""The first rows of a file as they stand in it, to choose columns by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice

from lorameta.data.files import read_file
from lorameta.data.problems import Problems
from lorameta.errors import DataError


def preview(
    path: str | os.PathLike[str], *, rows: int = 5, encoding: str = "utf-8"
) -> tuple[list[str], list[list[str]]]:
    """Read the columns and the first rows of a file.

    Parameters
    ----------
    path : path
    rows : int
        How many at most.
    encoding : str
        Of a text file.

    Returns
    -------
    columns : list of str
        In the order in which they come.
    cells : list of list of str
        A row each, "" where it lacks the column.

    Raises
    ------
    DataError
        The file cannot be read, or its rows have no columns.
    """
    problems = Problems(str(path), f"{path}:")
    found = [row for _, row in islice(read_file(path, encoding, problems), rows)]
    columns = list(dict.fromkeys(str(key) for row in found if isinstance(row, Mapping) for key in row))
    if not columns:
        problems.raise_if_any()
        raise DataError(f"{path} has no rows with columns")
    cells = [["" if row.get(key) is None else str(row[key]) for key in columns] for row in found
             if isinstance(row, Mapping)]  # fmt: skip
    return columns, cells
