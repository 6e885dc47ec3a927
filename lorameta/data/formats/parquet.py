"""Parquet: the columns that are used, in chunks that are bounded in bytes."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from lorameta.data.values import RowError

#: Bytes of a chunk, as far as they can be known before it is read, and its most rows.
CHUNK = 1 << 23
ROWS = 1024


def parquet_rows(
    source: BinaryIO, wanted: Callable[[Sequence[str], Sequence[str]], list[str]]
) -> Iterator[tuple[int, object]]:
    """Yield the rows of a Parquet file, numbered from 1.

    Parameters
    ----------
    source : BinaryIO
    wanted : callable
        Is given the names of all columns and of those that hold nothing, and returns those that are to be read.
    """
    import pyarrow.parquet

    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(source)
        schema = file.schema_arrow
        repeated_names(schema.names)
        used = wanted(schema.names, [field.name for field in schema if pyarrow.types.is_null(field.type)])
        classes = class_names(schema.metadata)
        # Text that repeats stays as small in memory as it is in the file.
        texts = [name for name in used if pyarrow.types.is_string(schema.field(name).type)]
        file = pyarrow.parquet.ParquetFile(source, read_dictionary=texts)
        for group in range(file.num_row_groups):
            rows = _rows_per_chunk(file.metadata.row_group(group))
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=used):
                for row in batch_rows(batch, classes, number):
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, TypeError) as error:
        if isinstance(error, RowError):
            raise
        raise RowError(f"the Parquet file is damaged or cut short after row {number}: {error}") from None


def repeated_names(names: Sequence[str]) -> None:
    """Raise RowError if two columns have one name."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise RowError(f"the column {', '.join(map(repr, twice[:12]))} is there more than once; rename one")


def _rows_per_chunk(group: Any) -> int:
    """Return how many rows of a row group fit in a chunk; at least 1.

    The sizes of single columns are not asked for: of a damaged file, pyarrow ends the process over them.
    """
    return max(1, min(ROWS, CHUNK * max(group.num_rows, 1) // max(group.total_byte_size, 1)))


def batch_rows(batch: Any, classes: dict[str, list[str]], before: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a record batch; RowError names the row of a value that Python cannot hold."""
    import pyarrow

    batch.validate(full=True)  # of a damaged file, offsets may point anywhere
    longest = 1
    for column in batch.columns:
        if pyarrow.types.is_dictionary(column.type) and len(column.dictionary):
            longest += column.dictionary.nbytes // len(column.dictionary)
        elif batch.num_rows:
            longest += column.nbytes // batch.num_rows
    step = max(1, min(ROWS, CHUNK // longest))
    for start in range(0, batch.num_rows, step):
        chunk = batch.slice(start, step)
        try:
            rows = chunk.to_pylist()
        except (pyarrow.ArrowException, ValueError, OverflowError):
            rows = [_single(chunk, index, before + start + index + 1) for index in range(chunk.num_rows)]
        for row in rows:
            for name, known in classes.items():
                if name in row:
                    row[name] = named_class(row[name], known)
            yield row


def _single(chunk: Any, index: int, number: int) -> dict[str, Any]:
    import pyarrow

    row = {}
    for name, column in zip(chunk.schema.names, chunk.columns, strict=True):
        try:
            row[name] = column[index].as_py()
        except (pyarrow.ArrowException, ValueError, OverflowError) as error:
            raise RowError(f"row {number}: the value of {name!r} cannot be read: {error}") from None
    return row


def class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the names of the classes by column, where `datasets` wrote them into the schema."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        for name, feature in features.items():
            known = feature.get("names") if isinstance(feature, dict) else None
            if isinstance(known, list) and all(isinstance(one, str) for one in known):
                found[str(name)] = known
    return found


def named_class(value: Any, known: list[str]) -> Any:
    """Return the name of a class for its number, also in lists; None for -1, which stands for none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return known[value] if 0 <= value < len(known) else None if value == -1 else value
    return [named_class(one, known) for one in value] if isinstance(value, list) else value
