"""The rows of an opened file, one at a time, each with the line where it begins; one file format a module."""

from __future__ import annotations

from lorameta.data.formats.json_list import json_rows
from lorameta.data.formats.jsonl import jsonl_rows
from lorameta.data.formats.parquet import parquet_rows
from lorameta.data.formats.table import table_rows

__all__ = ["json_rows", "jsonl_rows", "parquet_rows", "table_rows"]
