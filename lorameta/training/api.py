"""`refine` and `finetune`: a training from an adapter, and the same from scratch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from lorameta.adapter import Adapter
from lorameta.base_model.load import Base, load_tokenizer
from lorameta.base_model.locate import local_base
from lorameta.base_model.templates import ChatTemplate, about_rows, rendered
from lorameta.data import Dataset, Example, load_examples
from lorameta.data.split import Parts
from lorameta.errors import DataError, UsageError
from lorameta.training.job import PreparedTraining, prepare
from lorameta.training.options import RefineSettings, settings_of
from lorameta.training.progress import TrainingProgress
from lorameta.training.rows import hold_out


def refine(
    adapter: Adapter | str | os.PathLike[str],
    dataset: Dataset,
    *,
    base: str | os.PathLike[str] | Base | None = None,
    settings: RefineSettings | Mapping[str, Any] | None = None,
    validation: Dataset | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    report: Callable[[TrainingProgress], object] | None = None,
    input_column: str | None = None,
    output_column: str | None = None,
    encoding: str = "utf-8",
) -> Adapter:
    """Train an adapter further on a dataset, for a short while, on the CPU.

    The loss is on the answers alone. A tenth of the rows is held out; the state with the lowest loss on them is
    returned, and what was given is one of the states: the result is never worse there than the start.

    Parameters
    ----------
    adapter : Adapter or path
        Is not changed.
    dataset : path, datasets.Dataset, or iterable of dict
        Labelled rows.
    base : path, Hub id or Base, optional
        By default the one that the adapter names.
    settings : RefineSettings or mapping, optional
        How long, at what rate, ...; three epochs by default.
    validation : as `dataset`, optional
        Rows to choose the best state by; by default a part of `dataset`.
    checkpoint : path, optional
        A folder for the state of the run. A call with the same rows, base and settings goes on from it and ends with
        the same numbers as one that was never interrupted (with ``minutes``: with the time that was left). It is
        removed when the run is done.
    log : path, optional
        A file that gets a JSON object per line for each step, measurement and checkpoint.
    report : callable, optional
        Is shown a :class:`lorameta.training.TrainingProgress` after each step.
    input_column, output_column, encoding
        See :func:`lorameta.load_examples`.

    Returns
    -------
    Adapter
        With ``report["refinement"]``: steps, losses, seconds, ... Weights and report of a generated adapter stay.

    Raises
    ------
    DataError, UsageError, BankError, MissingExtraError
        Something given cannot be used.
    LorametaError
        The training does not fit in memory or in the time; with the smaller choice that would.
    """
    start = adapter if isinstance(adapter, Adapter) else Adapter.from_pretrained(adapter)
    with prepared(
        dataset, base, settings, start=start, validation=validation, checkpoint=checkpoint, log=log,
        input_column=input_column, output_column=output_column, encoding=encoding,
    ) as job:  # fmt: skip
        done = job.run(report=report)
        job.forget()
        return done


def finetune(
    dataset: Dataset,
    base: str | os.PathLike[str] | Base,
    *,
    revision: str | None = None,
    settings: RefineSettings | Mapping[str, Any] | None = None,
    validation: Dataset | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    report: Callable[[TrainingProgress], object] | None = None,
    input_column: str | None = None,
    output_column: str | None = None,
    encoding: str = "utf-8",
) -> Adapter:
    """Train a LoRA adapter from scratch: the baseline of what is generated or refined.

    The parameters are those of :func:`refine`, except

    Parameters
    ----------
    base : path, Hub id or Base
        What ``AutoModelForCausalLM.from_pretrained`` takes.
    revision : str, optional
        Of a base on the Hub.

    Returns
    -------
    Adapter
        Its update is zero if no step made the held-out rows likelier.
    """
    with prepared(
        dataset, base, settings, revision=revision, validation=validation, checkpoint=checkpoint, log=log,
        input_column=input_column, output_column=output_column, encoding=encoding,
    ) as job:  # fmt: skip
        done = job.run(report=report)
        job.forget()
        return done


@contextmanager
def prepared(
    dataset: Dataset,
    base: str | os.PathLike[str] | Base | None,
    settings: RefineSettings | Mapping[str, Any] | None,
    *,
    start: Adapter | None = None,
    revision: str | None = None,
    validation: Dataset | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    log: str | os.PathLike[str] | None = None,
    input_column: str | None = None,
    output_column: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[PreparedTraining]:
    """Everything up to the first step; see :func:`refine` and :func:`lorameta.training.job.prepare`."""
    wanted = settings_of(settings)
    template = "" if start is None else start.report.get("prompt_template", "")
    where = base if base is not None else start.base_model if start is not None else ""
    if not isinstance(where, Base) and not os.fspath(where):
        raise UsageError("the adapter does not say what base it was made for; name it")

    @cache
    def chat() -> ChatTemplate | None:
        if isinstance(where, Base):
            return ChatTemplate.of(where.tokenizer, where.name)
        return ChatTemplate.of(load_tokenizer(where, said_revision), os.fspath(where))

    def read(rows: Dataset) -> list[Example]:
        columns = {"input_column": input_column, "output_column": output_column}
        return rendered(template, load_examples(rows, encoding=encoding, **columns), chat)

    said, said_revision = (None, None) if isinstance(where, Base) else (os.fspath(where), revision)
    if start is not None:
        said, said_revision = start.base_model or said, start.base_revision if base is None else revision
    examples = read(dataset)
    if validation is None:
        parts = hold_out(examples, wanted.validation_share)
    else:
        held = read(validation)
        known = {(row.input, row.output) for row in held}
        kept = tuple(row for row in examples if (row.input, row.output) not in known)
        if not kept or not held:
            raise DataError("there is no row to learn from that is not among the validation rows")
        parts = Parts(kept, tuple(held))
    local = where if isinstance(where, Base) else local_base(where)
    with prepare(
        parts, local, wanted, start=start, revision=said_revision, said=said, checkpoint=checkpoint, fresh=fresh,
        log=log,
    ) as job:  # fmt: skip
        job.prompt = about_rows(template, parts.train, chat)
        yield job
