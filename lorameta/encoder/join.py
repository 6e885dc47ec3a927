"""Summaries of several banks, or of parts of one, put together."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from lorameta.encoder.counts import TokenCounts
from lorameta.encoder.summary import Summaries
from lorameta.errors import BankError


def join(*parts: Summaries) -> Summaries:
    """Return the summaries of all datasets, one part after the other; counts stay sparse.

    Parameters
    ----------
    *parts : Summaries
        At least one, made by the same encoders.

    Returns
    -------
    Summaries

    Raises
    ------
    BankError
        They have different parts, tokenizers, sentence models or dimensions, or an id twice; everything at once.
    """
    if not parts:
        raise BankError("there are no summaries to put together")
    found: list[str] = []
    for name in ("tokenizer_hash", "sentence_model"):
        if len(made_by := {getattr(part, name) for part in parts}) > 1:
            found.append(f"{name}: some are of {' and some of '.join(sorted(map(str, made_by)))}")
    arrays: dict[str, Any] = {}
    for name in (field.name for field in fields(Summaries)):
        if name in ("ids", "tokenizer_hash", "sentence_model"):
            continue
        values = [getattr(part, name) for part in parts]
        given = [value for value in values if value is not None]
        if 0 < len(given) < len(values):
            lacking = [id for part, value in zip(parts, values, strict=True) if value is None for id in part.ids]
            found += [f"{id}: has no {name}, which others have" for id in lacking]
        elif len(widths := {_width(name, value) for value in given}) > 1:
            found.append(f"{name}: their dimensions differ, {' and '.join(sorted(map(str, widths)))}")
        elif given:
            arrays[name] = _counts(given) if name == "token_counts" else _stack(given)
    BankError.raise_if(found, "these summaries do not belong together:")
    ids = tuple(id for part in parts for id in part.ids)
    return Summaries(ids, **arrays, tokenizer_hash=parts[0].tokenizer_hash, sentence_model=parts[0].sentence_model)


def _width(name: str, value: Any) -> Any:
    """Return what must be the same in all parts; the number of sampled rows may differ."""
    return value.shape[-1] if name in ("token_counts", "samples") else value.shape[1:]


def _counts(parts: list[TokenCounts]) -> TokenCounts:
    starts = np.cumsum([0, *(part.indptr[-1] for part in parts)])
    indptr = [part.indptr[:-1] + start for part, start in zip(parts, starts, strict=False)]
    return TokenCounts(
        np.concatenate([*indptr, starts[-1:]]).astype(np.int64),
        np.concatenate([part.token_ids for part in parts]),
        np.concatenate([part.counts for part in parts]),
        parts[0].vocabulary_size,
    )


def _stack(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenated; samples of unequal length are filled up with rows of NaN."""
    if parts[0].ndim == 3 and len({part.shape[1] for part in parts}) > 1:
        longest = max(part.shape[1] for part in parts)
        gaps = [((0, 0), (0, longest - part.shape[1]), (0, 0)) for part in parts]
        parts = [np.pad(part, gap, constant_values=np.nan) for part, gap in zip(parts, gaps, strict=True)]
    return np.concatenate(parts)
