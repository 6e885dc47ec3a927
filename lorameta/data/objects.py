"""Rows in memory: lists of dicts, data frames, Arrow tables, datasets of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lorameta.data.formats.parquet import batch_rows, class_names, named_class, repeated_names
from lorameta.data.values import RowError
from lorameta.errors import DataError

_CHUNK = 1024


def object_rows(dataset: object) -> Iterator[tuple[int, object]]:
    """Yield the rows of an object, numbered from 1; DataError if it has none.

    Integers of a `datasets.ClassLabel` become the names of their classes.
    """
    if isinstance(dataset, Mapping):
        parts = ", ".join(map(repr, list(dataset)[:6]))
        raise DataError(
            f"A dataset is a list of rows, not one mapping (keys {parts}): pass one part, or a list of dicts."
        )
    table = type(dataset).__module__ == "pyarrow.lib" and hasattr(dataset, "to_batches")
    if not (isinstance(dataset, Iterable) or table) or isinstance(dataset, (bytes, bytearray, type)):
        what = "None" if dataset is None else f"of type {type(dataset).__name__}"
        if isinstance(dataset, type):
            what = f"the class {dataset.__name__}"
        raise DataError(f"A dataset is a path or an iterable of dicts, not {what}.")
    yield from enumerate(_rows(dataset), 1)


def _rows(dataset: Any) -> Iterator[object]:
    kind = f"{type(dataset).__module__}.{type(dataset).__name__}"
    if kind.startswith("pandas.") and hasattr(dataset, "columns"):
        return _pandas(dataset)
    if kind.startswith("polars.") and hasattr(dataset, "iter_rows"):
        return iter(dataset.iter_rows(named=True))
    if kind.startswith("pyarrow."):
        return _arrow(dataset)
    features = getattr(dataset, "features", None)
    if kind.startswith("datasets.") and isinstance(features, Mapping):
        names = {
            name: list(one.names) for name, one in features.items() if isinstance(getattr(one, "names", None), list)
        }
        if names:
            return ({**row, **{n: named_class(row[n], known) for n, known in names.items()}} for row in dataset)
    return iter(dataset)


def _pandas(frame: Any) -> Iterator[object]:
    columns = [str(name) for name in frame.columns]
    try:
        repeated_names(columns)
    except RowError as error:
        raise DataError(f"in the data frame, {error}") from None
    for start in range(0, len(frame), _CHUNK):
        yield from frame.iloc[start : start + _CHUNK].to_dict(orient="records")


def _arrow(table: Any) -> Iterator[object]:
    number = 0
    try:
        repeated_names(table.column_names)
        classes = class_names(table.schema.metadata)
        for batch in table.to_batches(max_chunksize=_CHUNK):
            yield from batch_rows(batch, classes, number)
            number += batch.num_rows
    except RowError as error:
        raise DataError(f"in the table, {error}") from None
