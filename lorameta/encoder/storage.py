"""The summaries file of a bank: one safetensors file, compact, the same bytes for the same summaries.

============================  =================  ==========================================================
tensor                        dtype, shape       holds
============================  =================  ==========================================================
``rows``                      int64 (N,)         examples in each dataset
``token_indptr``              int64 (N+1,)       CSR: dataset i has the entries ``indptr[i]:indptr[i+1]``
``token_indices``             uint16|32 (nnz,)   CSR: the token ids, increasing within a dataset
``token_counts``              uint16|32|64       CSR: how often each occurs, at least 1
``means``                     float16 (N, d)     sentence embeddings' means
``covariance_factors``        float16 (N, k, d)  F of each dataset
``residual_variances``        float32 (N,)       trace left out by F
``samples``                   float16 (Σs, d)    the samples of all datasets, one after the other
``sample_indptr``             int64 (N+1,)       dataset i has the sample rows ``indptr[i]:indptr[i+1]``
============================  =================  ==========================================================

float16 keeps three digits of numbers whose size is at most one; see the tests for what that does to a distance.
The header has one metadata key, ``lorameta``: a JSON text with the format version, the ids, the vocabulary's
size, the tokenizer's hash and the sentence model. One key, since safetensors writes several in random order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.encoder.counts import MAX_VOCABULARY, TokenCounts
from lorameta.encoder.summary import Summaries
from lorameta.errors import BankError
from lorameta.files import json_text
from lorameta.files.atomic import write_file
from lorameta.files.links import is_file
from lorameta.files.tensors import MAX_HEADER, damage

FORMAT = 1
_KEY = "lorameta"
_DTYPES = ("U8", "U16", "U32", "U64", "I64", "F16", "F32")
#: A summaries file is read as a whole.
MAX_BYTES = 1 << 31
_MAX_CELLS = 2**30  # of the padded samples: 4 GiB; more is a damaged header
_REMEDY = "fetch the bank again, or build the summaries with: lorameta bank build"


def write_summaries(summaries: Summaries, path: Path) -> Path:
    """Write `summaries` to `path` in one step: readers see the old file or the new one.

    Raises
    ------
    BankError
        If a number is too large for float16.
    LorametaError
        If the file cannot be written.
    """
    return write_file(path, to_bytes(summaries))


def to_bytes(summaries: Summaries) -> bytes:
    """Return the content of the file; BankError if a number is too large for float16."""
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray] = {"rows": summaries.rows}
    if (counts := summaries.token_counts) is not None:
        largest = max(int(counts.counts.max(initial=0)), 2**8)
        tensors["token_indptr"] = counts.indptr
        tensors["token_indices"] = counts.token_ids.astype(np.uint16 if counts.vocabulary_size <= 2**16 else np.uint32)
        tensors["token_counts"] = counts.counts.astype(np.min_scalar_type(largest))
    if (samples := summaries.samples) is not None:
        present = ~np.isnan(samples).any(axis=2)
        tensors["sample_indptr"] = _indptr(np.count_nonzero(present, axis=1))
        tensors["samples"] = _half("samples", samples[present])
    if summaries.means is not None:
        tensors["means"] = _half("means", summaries.means)
    if summaries.covariance_factors is not None:
        tensors["covariance_factors"] = _half("covariance_factors", summaries.covariance_factors)
    if summaries.residual_variances is not None:
        tensors["residual_variances"] = summaries.residual_variances
    header = {
        "format": FORMAT,
        "ids": list(summaries.ids),
        "sentence_model": summaries.sentence_model,
        "tokenizer_hash": summaries.tokenizer_hash,
        "vocabulary_size": None if counts is None else counts.vocabulary_size,
    }
    metadata = {_KEY: json.dumps(header, sort_keys=True, ensure_ascii=True, separators=(",", ":"))}
    return save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata)


def read_summaries(path: Path) -> Summaries:
    """Read a summaries file; every number is checked, so that damage ends here and not in a distance.

    Raises
    ------
    BankError
        If the file is missing, damaged, not what it says, or written by a newer lorameta.
    """
    tensors, header = _open(path)
    try:
        if header["format"] != FORMAT:
            raise _Damage(f"has format {header['format']!r}, this version of lorameta reads format {FORMAT}")
        ids = header["ids"]
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise _Damage("its ids are not a list of texts")
        vocabulary_size = header["vocabulary_size"]
        for label in ("tokenizer_hash", "sentence_model"):
            if not isinstance(header[label], str | None):
                raise _Damage(f"its {label} is not a text")
        counts = None if vocabulary_size is None else _token_counts(tensors, len(ids), vocabulary_size)
        samples = _padded_samples(tensors, len(ids)) if "samples" in tensors else None
        return Summaries(
            tuple(ids),
            tensors["rows"],
            counts,
            _single(tensors.get("means")),
            _single(tensors.get("covariance_factors")),
            tensors.get("residual_variances"),
            samples,
            header["tokenizer_hash"],
            header["sentence_model"],
        )
    except KeyError as error:
        raise BankError(f"{path}: is damaged: {error} is missing; {_REMEDY}") from None
    except (_Damage, BankError) as error:
        raise BankError(f"{path}: {error}; {_REMEDY}") from None


class _Damage(Exception):
    """What is wrong with the file, without its name and the remedy."""


def _open(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not is_file(path):
        raise BankError(f"{path}: there is no such summaries file; {_REMEDY}")
    if path.stat().st_size > MAX_BYTES:
        raise BankError(f"{path}: has more than the {MAX_BYTES:,} bytes that are read of a summaries file; {_REMEDY}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            header = json_text.decode(metadata[_KEY]) if _KEY in metadata else None
            if not isinstance(header, dict):
                raise _Damage("is a safetensors file, but no summaries file of lorameta")
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict
            if strange := sorted({f"{name} in {kind}" for name, kind in kinds.items() if kind not in _DTYPES}):
                raise _Damage(f"has {', '.join(strange[:3])}, which no summaries file has")
            return {name: file.get_tensor(name) for name in kinds}, header
    except _Damage as error:
        raise BankError(f"{path}: {error}; {_REMEDY}") from None
    except (SafetensorError, ValueError, OSError, TypeError, KeyError) as error:
        with path.open("rb") as start:
            what = damage(start.read(MAX_HEADER), path.stat().st_size) or f"is damaged ({error})"
        raise BankError(f"{path}: {what}; {_REMEDY}") from error


def _token_counts(tensors: dict[str, np.ndarray], n: int, vocabulary_size: Any) -> TokenCounts:
    if not isinstance(vocabulary_size, int) or not 0 < vocabulary_size <= MAX_VOCABULARY:
        raise _Damage(f"says that the vocabulary has {vocabulary_size!r} tokens, which cannot be")
    tokens, values = tensors["token_indices"], tensors["token_counts"]
    _lengths("token_indptr", tensors, n, len(tokens))
    if tokens.ndim != 1 or values.shape != tokens.shape or tokens.dtype.kind != "u" or values.dtype.kind != "u":
        raise _Damage("its token ids and counts do not match")
    return TokenCounts(tensors["token_indptr"], tokens.astype(np.int64), values.astype(np.int64), vocabulary_size)


def _padded_samples(tensors: dict[str, np.ndarray], n: int) -> np.ndarray:
    rows = tensors["samples"]
    if rows.ndim != 2:
        raise _Damage(f"its samples have {rows.ndim} axes instead of 2")
    lengths = _lengths("sample_indptr", tensors, n, len(rows))
    longest = int(lengths.max(initial=0))
    if n * longest * rows.shape[1] > _MAX_CELLS:
        raise _Damage(f"its samples would fill {n} × {longest} × {rows.shape[1]} numbers, which cannot be")
    samples = np.full((n, longest, rows.shape[1]), np.nan, dtype=np.float32)
    samples[np.arange(longest) < lengths[:, None]] = rows
    return samples


def _lengths(name: str, tensors: dict[str, np.ndarray], n: int, total: int) -> np.ndarray:
    """Return the number of entries of each dataset, from a checked CSR index pointer."""
    indptr = tensors[name]
    lengths = np.diff(indptr)
    if indptr.dtype != np.int64 or indptr.shape != (n + 1,) or indptr[0] != 0 or indptr[-1] != total:
        raise _Damage(f"its {name} does not fit {n} datasets and {total} entries")
    if (lengths < 0).any():
        raise _Damage(f"its {name} decreases")
    return lengths


def _indptr(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _half(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise BankError(f"{name}: the largest number, {np.abs(array).max():g}, is too large for float16 (65504)")
    return half


def _single(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array.astype(np.float32)
