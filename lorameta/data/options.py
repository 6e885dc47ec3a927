"""`ReadOptions`: how files of rows are read, for functions that pass it on to each of many files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class ReadOptions:
    """Arguments of :func:`lorameta.data.read_examples`, where they are explained.

    Attributes
    ----------
    input_column, output_column : str, optional
    context_columns, ignore_columns : tuple of str
    encoding : str
    delimiter : str, optional
    quoting : str
    """

    input_column: str | None = None
    output_column: str | None = None
    context_columns: tuple[str, ...] = ()
    ignore_columns: tuple[str, ...] = ()
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: str = "auto"

    def as_dict(self) -> dict[str, Any]:
        """Return them as keyword arguments, JSON-able."""
        return asdict(self)

    def of_columns(self, input_column: str | None = None, output_column: str | None = None) -> ReadOptions:
        """Return them with the columns of one dataset, which go before those of all."""
        return replace(
            self,
            input_column=input_column or self.input_column,
            output_column=output_column or self.output_column,
        )
