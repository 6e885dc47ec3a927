"""What the library remembers of a dataset (`DatasetSummary`), and of all the datasets of a bank (`Summaries`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.encoder.counts import TokenCounts
from lorameta.errors import BankError, UsageError

#: Part of a summary → the fields it is made of, in `DatasetSummary` and in `Summaries`.
PARTS = {
    "tokens": ("token_counts",),
    "sentence": ("mean", "covariance_factor", "residual_variance", "sample"),
}
_STACKED = {
    "token_counts": "token_counts",
    "mean": "means",
    "covariance_factor": "covariance_factors",
    "residual_variance": "residual_variances",
    "sample": "samples",
}
_REMEDY = "Build the summaries again with: lorameta bank build"


@dataclass(frozen=True, eq=False)
class DatasetSummary:
    """What one encoder, or several, found in one dataset. A part that was not computed is None.

    Attributes
    ----------
    rows : int
        Number of examples in the dataset.
    token_counts : numpy.ndarray of shape (V,), int64, optional
        How often each id of the base's vocabulary occurs in the rows' texts, added special tokens left out.
    mean : numpy.ndarray of shape (d,), float32, optional
        Mean of the rows' sentence embeddings, which are unit vectors.
    covariance_factor : numpy.ndarray of shape (k, d), float32, optional
        F, such that FᵀF is the best rank-k approximation of the embeddings' covariance.
    residual_variance : float, optional
        Trace of the covariance that FᵀF leaves out; at least 0.
    sample : numpy.ndarray of shape (s, d), float32, optional
        Embeddings of s rows, drawn without replacement.
    """

    rows: int
    token_counts: np.ndarray | None = None
    mean: np.ndarray | None = None
    covariance_factor: np.ndarray | None = None
    residual_variance: float | None = None
    sample: np.ndarray | None = None

    def has(self, part: str) -> bool:
        """Check whether `part`, ``"tokens"`` or ``"sentence"``, was computed."""
        return all(getattr(self, name) is not None for name in PARTS[part])

    def part(self, part: str) -> tuple[Any, ...]:
        """Return the fields of `part` in the order of `PARTS`; UsageError if it was not computed."""
        if not self.has(part):
            encoder = f"lorameta.encoder.ENCODERS[{part!r}]"
            raise UsageError(f"the summary of this dataset lacks the part {part!r}; compute it with {encoder}")
        return tuple(getattr(self, name) for name in PARTS[part])


def merge(*summaries: DatasetSummary) -> DatasetSummary:
    """One summary with the parts of several summaries of the same dataset.

    Raises
    ------
    UsageError
        If there is none, if their numbers of rows differ, or if two have the same part.
    """
    if not summaries:
        raise UsageError("merge needs at least one summary")
    rows = sorted({summary.rows for summary in summaries})
    if len(rows) > 1:
        raise UsageError(f"these summaries are of different datasets: they have {', '.join(map(str, rows))} rows")
    merged = summaries[0]
    for summary in summaries[1:]:
        found = {name: getattr(summary, name) for name in _STACKED if getattr(summary, name) is not None}
        twice = [name for name in found if getattr(merged, name) is not None]
        if twice:
            raise UsageError(f"two of the summaries have {', '.join(twice)}; pass each part once")
        merged = replace(merged, **found)
    return merged


@dataclass(frozen=True, eq=False)
class Summaries:
    """The summaries of a bank's N datasets, stacked. A part that was not computed is None.

    Attributes
    ----------
    ids : tuple of str
        The adapters' ids; row i of every array belongs to ``ids[i]``.
    rows : numpy.ndarray of shape (N,), int64
        Number of examples in each dataset.
    token_counts : TokenCounts of shape (N, V), optional
        Sparse; ``token_counts.toarray()`` is the dense array, ``token_counts[i]`` one dense row.
    means : numpy.ndarray of shape (N, d), float32, optional
    covariance_factors : numpy.ndarray of shape (N, k, d), float32, optional
    residual_variances : numpy.ndarray of shape (N,), float32, optional
    samples : numpy.ndarray of shape (N, s, d), float32, optional
        A dataset with fewer than s sampled rows ends in rows of NaN.
    tokenizer_hash : str, optional
        Of the tokenizer that counted, see :func:`lorameta.encoder.tokenizer_hash`.
    sentence_model : str, optional
        Name of the model that embedded.

    Raises
    ------
    BankError
        If the arrays do not fit together or hold impossible numbers; all violations are listed.
    """

    ids: tuple[str, ...]
    rows: np.ndarray
    token_counts: TokenCounts | None = None
    means: np.ndarray | None = None
    covariance_factors: np.ndarray | None = None
    residual_variances: np.ndarray | None = None
    samples: np.ndarray | None = None
    tokenizer_hash: str | None = None
    sentence_model: str | None = None

    def __post_init__(self) -> None:
        BankError.raise_if(_problems(self), "the bank's summaries are damaged:", _REMEDY)

    @classmethod
    def from_list(
        cls,
        ids: Sequence[str],
        summaries: Iterable[DatasetSummary],
        *,
        tokenizer_hash: str | None = None,
        sentence_model: str | None = None,
    ) -> Summaries:
        """Stack the summaries of single datasets, the i-th of them that of ``ids[i]``.

        Raises
        ------
        BankError
            If some datasets lack a part that others have, or the parts' shapes differ.
        """
        summaries = list(summaries)
        if len(ids) != len(summaries):
            raise BankError(f"{len(ids)} adapter ids came with {len(summaries)} summaries; there must be one for each")
        stacked: dict[str, Any] = {}
        found: list[str] = []
        for name, plural in _STACKED.items():
            values = [getattr(summary, name) for summary in summaries]
            given = [np.asarray(value) for value in values if value is not None]
            if given and len(given) < len(values):
                lacking = (id_ for id_, value in zip(ids, values, strict=True) if value is None)
                found += [f"{id_}: has no {name}, which other adapters have" for id_ in lacking]
            elif given:
                # Samples may differ in their number of rows; everything else must agree in shape.
                shapes = [value.shape[1:] if name == "sample" else value.shape for value in given]
                usual = max(shapes, key=shapes.count)
                odd = [i for i, shape in enumerate(shapes) if shape != usual]
                found += [f"{ids[i]}: {name} has shape {shapes[i]}, others {usual}" for i in odd]
                if odd:
                    continue
                if name == "token_counts":
                    stacked[plural] = TokenCounts.stack(given, given[0].size)
                else:
                    array = _padded(given) if name == "sample" else np.stack(given)
                    stacked[plural] = array.astype(_DTYPES[plural])
        BankError.raise_if(found, "these summaries cannot be stacked:", _REMEDY)
        rows = np.array([summary.rows for summary in summaries], dtype=np.int64)
        return cls(tuple(ids), rows, **stacked, tokenizer_hash=tokenizer_hash, sentence_model=sentence_model)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, adapter_id: str) -> DatasetSummary:
        if adapter_id not in self.ids:
            raise BankError(f"there is no summary of {adapter_id!r}; the bank has {len(self)} adapters")
        i = self.ids.index(adapter_id)
        arrays = {name: getattr(self, plural) for name, plural in _STACKED.items()}
        parts = {name: array[i] for name, array in arrays.items() if array is not None}
        if "sample" in parts:
            parts["sample"] = parts["sample"][~np.isnan(parts["sample"]).any(axis=1)]
        if "residual_variance" in parts:
            parts["residual_variance"] = float(parts["residual_variance"])
        return DatasetSummary(int(self.rows[i]), **parts)

    def has(self, part: str) -> bool:
        """Check whether the bank has the part ``"tokens"`` or ``"sentence"``."""
        return all(getattr(self, _STACKED[name]) is not None for name in PARTS[part])

    def part(self, part: str) -> tuple[Any, ...]:
        """Return the stacked fields of `part` in the order of `PARTS`; BankError if the bank lacks it."""
        if not self.has(part):
            raise BankError(f"the bank's summaries lack the part {part!r}. {_REMEDY}")
        return tuple(getattr(self, _STACKED[name]) for name in PARTS[part])

    def select(self, ids: Iterable[str]) -> Summaries:
        """Return the summaries of `ids` alone, in their order."""
        wanted = tuple(ids)
        place = {adapter_id: i for i, adapter_id in enumerate(self.ids)}
        BankError.raise_if(
            [adapter_id for adapter_id in wanted if adapter_id not in place],
            f"the bank of {len(self)} adapters has no summary of:",
        )
        index = np.array([place[adapter_id] for adapter_id in wanted], dtype=np.int64)
        arrays = {name: getattr(self, name) for name in ("token_counts", *_DTYPES)}
        chosen: dict[str, Any] = {name: None if a is None else a[index] for name, a in arrays.items()}
        return replace(self, ids=wanted, **chosen)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write one safetensors file; the same summaries give the same bytes. See `lorameta.encoder.storage`."""
        from lorameta.encoder.storage import write_summaries

        return write_summaries(self, Path(path))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Summaries:
        """Read what :meth:`save` wrote; BankError on a file that is missing, damaged or of a newer format."""
        from lorameta.encoder.storage import read_summaries

        return read_summaries(Path(path))


_DTYPES = {
    "rows": np.int64,
    "means": np.float32,
    "covariance_factors": np.float32,
    "residual_variances": np.float32,
    "samples": np.float32,
}
_DIMENSIONS = {"means": 2, "covariance_factors": 3, "residual_variances": 1, "samples": 3}


def _padded(samples: list[np.ndarray]) -> np.ndarray:
    """Samples of unequal length in one array (N, s, d), filled up with rows of NaN."""
    longest = max(len(sample) for sample in samples)
    stacked = np.full((len(samples), longest, samples[0].shape[-1]), np.nan, dtype=np.float32)
    for row, sample in zip(stacked, samples, strict=True):
        row[: len(sample)] = sample
    return stacked


def _problems(s: Summaries) -> list[str]:
    """Return everything about these summaries that cannot be."""
    found = [f"{name} is not a non-empty text: {name!r}" for name in s.ids if not (isinstance(name, str) and name)]
    found += [f"{name}: occurs {n} times" for name, n in Counter(s.ids).items() if n > 1]
    if s.token_counts is not None:
        found += _wrong_counts(s.token_counts, s.ids)
    for name, dtype in _DTYPES.items():
        array, dimensions = getattr(s, name), _DIMENSIONS.get(name, 1)
        if array is None:
            continue
        if array.dtype != dtype or array.ndim != dimensions or len(array) != len(s.ids):
            wanted = f"{np.dtype(dtype)} with {dimensions} axes and {len(s.ids)} rows"
            found.append(f"{name}: is {array.dtype} of shape {array.shape} instead of {wanted}")
            continue
        for what, which in _impossible(name, array).items():
            found += [f"{s.ids[i]}: {name} {what}" for i in np.flatnonzero(which)]
    widths = {name: getattr(s, name).shape[-1] for name in ("means", "covariance_factors", "samples")
              if getattr(s, name) is not None and getattr(s, name).ndim == _DIMENSIONS[name]}  # fmt: skip
    if len(set(widths.values())) > 1:
        found.append(f"the embeddings' dimensions differ: {', '.join(f'{k} {v}' for k, v in widths.items())}")
    return found


def _wrong_counts(counts: Any, ids: tuple[str, ...]) -> list[str]:
    if not isinstance(counts, TokenCounts):
        return [f"token_counts: is a {type(counts).__name__}; make it with TokenCounts.from_dense"]
    if len(counts) != len(ids):
        return [f"token_counts: has {len(counts)} rows instead of {len(ids)}"]
    datasets = np.repeat(np.arange(len(ids)), np.diff(counts.indptr))
    found = [f"{ids[i]}: token_counts has a negative count" for i in np.unique(datasets[counts.counts < 0])]
    return found + [f"{ids[i]}: token_counts counts no token" for i in np.flatnonzero(np.diff(counts.indptr) == 0)]


def _impossible(name: str, array: np.ndarray) -> dict[str, Any]:
    """Return what is wrong → in which of the N datasets, as a mask (N,)."""
    if name == "rows":
        return {"is below 1": array < 1}
    if name == "samples":
        padding = np.isnan(array).all(axis=2)
        holes = np.diff(padding.astype(np.int8), axis=1) < 0  # after a row of padding comes padding only
        broken = holes.any(axis=1) | (~np.isfinite(array).all(axis=2) & ~padding).any(axis=1)
        return {"has no row": padding.all(axis=1), "is not finite": broken}
    finite = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if name == "residual_variances":
        return {"is not finite": ~finite, "is negative": array < 0}
    return {"is not finite": ~finite}
