"""The rows of a dataset on the Hub, streamed once through `datasets`, and what is remembered of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorameta.bank.hub.client import Client, Trouble, classify, refused
from lorameta.bank.hub.presets import Member
from lorameta.bank_builder.hub.adapters import licence_of
from lorameta.bank_builder.summarise import Summariser
from lorameta.data.columns import Columns
from lorameta.data.example import Example
from lorameta.data.examples import report_of
from lorameta.data.rows import RowReader
from lorameta.data.values import RowError
from lorameta.encoder import Summaries
from lorameta.errors import DataError, LorametaError, requires

#: Rows of a dataset that are read at most.
MAX_ROWS = 50_000
#: Share of rows that may be unusable: nobody here can mend a dataset of somebody else.
BAD_ROWS = 0.01
#: One dataset is encoded at a time: the encoders use all cores, and one of them is not made for several threads.
_encoding = threading.Lock()


@dataclass(frozen=True)
class Streamed:
    """What came of a dataset: its summary, or the reasons why there is none.

    Attributes
    ----------
    summaries : Summaries or None
        Of one id.
    facts : dict
        Fields of the record: ``source``, ``licence``, ``rows``.
    problems : list of str
    renamed : str
        What its repository is called by now, if it was renamed.
    notes : list of str
        What is good to know.
    """

    summaries: Summaries | None
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    renamed: str = ""
    notes: list[str] = field(default_factory=list)


def stream(client: Client, member: Member, dataset: str, summariser: Summariser, max_rows: int) -> Streamed:
    """Read the rows of a dataset, at the commit that is the newest now, and summarise them.

    Raises
    ------
    Trouble
        The Hub does not give them.
    """
    info = client.dataset(dataset)
    renamed = info.id if info.id.lower() != dataset.lower() else ""

    how = summariser.reading.of_columns(member.input_column, member.output_column)
    columns = Columns(how.input_column, how.output_column, how.context_columns, frozenset(how.ignore_columns))
    try:
        rows, skipped, cut, reader = client.ask(
            dataset, lambda: _read(_rows(info.id, info.sha, member), columns, max_rows)
        )
        if not rows:
            raise DataError(f"its split {member.split!r} is empty")
        with _encoding:
            found = summariser.encode(member.id, rows)
            summariser.reads[-1] = report_of(dataset, rows, reader)  # it saw examples, which have no columns
    except DataError as error:
        return Streamed(None, problems=[f"its dataset {dataset}: {error}"], renamed=renamed)
    notes = [f"{dataset} has more than {max_rows} rows; the first {max_rows} were read"] if cut else []
    notes += [f"{skipped} rows of {dataset} cannot be used and were skipped"] if skipped else []
    source = {"repo": info.id, "commit": info.sha, "name": member.split}
    if member.config:
        source["name"] = f"{member.config}/{member.split}"
    licence = member.facts.get("licence") or licence_of(info)
    facts = {"source": source, "rows": {"train": len(rows)}, **({"licence": licence} if licence else {})}
    return Streamed(found, facts, [], renamed, notes)


def _read(rows: Iterable[Mapping[str, Any]], columns: Columns, most: int) -> tuple[list[Example], int, bool, RowReader]:
    """Return the examples, how many rows are none, whether there are more, and what was made of the columns.

    DataError if too many are none.
    """
    reader = RowReader(columns, require_output=False)
    good: list[Example] = []
    bad: list[str] = []
    for number, row in enumerate(rows, 1):
        if len(good) == most:
            return good, len(bad), True, reader
        try:
            good.append(reader.read(row))
        except RowError as error:
            bad.append(f"row {number}: {error} {error.hint}".strip())
        if not good and len(bad) == 20:  # other columns: there is no use in reading on
            break
    if len(bad) > BAD_ROWS * (len(good) + len(bad)):
        raise DataError(f"{len(bad)} of its rows cannot be used; {bad[0]}")
    return good, len(bad), False, reader


def _rows(dataset: str, revision: str, member: Member) -> Iterator[Mapping[str, Any]]:
    """Yield the rows, one after the other; DataError if it is no dataset that can be read.

    Troubles of the Hub are left as they are, for `Client.ask`, which starts over then.
    """
    with requires("datasets", "hub", f"reading the dataset {dataset}"):
        import datasets
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        found = datasets.load_dataset(
            dataset, member.config or None, split=member.split, revision=revision, streaming=True
        )
        yield from found
    except LorametaError:
        raise
    except Exception as error:
        if classify(dataset, error) is not None:
            raise
        # `datasets` tells these in words only: it drops the errors that they were made of.
        if isinstance(error, FileNotFoundError) and "LocalEntryNotFoundError" in str(error):
            raise Trouble(f"{dataset}: the connection failed, or the Hub is busy", "connection") from error
        if type(error).__name__ == "DatasetNotFoundError":
            raise refused(dataset, gated="gated" in str(error)) from error
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"cannot be read by `datasets`: {why}") from error
