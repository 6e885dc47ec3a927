"""The files of `Dataset.save_to_disk`: Arrow streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from lorameta.data.formats.parquet import batch_rows, class_names, repeated_names
from lorameta.data.values import RowError


def arrow_rows(
    source: BinaryIO, wanted: Callable[[Sequence[str], Sequence[str]], list[str]]
) -> Iterator[tuple[int, object]]:
    """Yield the rows of an Arrow stream or file, numbered from 1; see `parquet_rows`."""
    import pyarrow

    number = 0
    try:
        file = source.read(6) == b"ARROW1"
        source.seek(0)
        if file:
            opened = pyarrow.ipc.open_file(source)
            batches = map(opened.get_batch, range(opened.num_record_batches))
        else:
            opened = pyarrow.ipc.open_stream(source)
            batches = iter(opened)
        schema = opened.schema
        repeated_names(schema.names)
        used = wanted(schema.names, [field.name for field in schema if pyarrow.types.is_null(field.type)])
        classes = class_names(schema.metadata)
        for batch in batches:
            for row in batch_rows(batch.select(used), classes, number):
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, TypeError) as error:
        if isinstance(error, RowError):
            raise
        raise RowError(f"the Arrow file is damaged or cut short after row {number}: {error}") from None
