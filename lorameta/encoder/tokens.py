"""A dataset as a histogram over the base model's vocabulary."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.base_model.tokenizer_patterns import check_patterns
from lorameta.encoder.counts import MAX_VOCABULARY
from lorameta.encoder.summary import DatasetSummary
from lorameta.encoder.texts import HasText, texts_of
from lorameta.errors import BankError, DataError
from lorameta.files import json_text
from lorameta.files.links import is_directory, is_file, reason

#: Texts, and characters in all, that are tokenised at once: a token takes some hundred bytes while it is counted.
BATCH, MAX_CHARACTERS = 1024, 1 << 18


def tokenizer_hash(tokenizer: str | PathLike[str]) -> str:
    """Sha256 of what decides how a tokenizer cuts a text, so that two files that count alike hash alike.

    Hashed are vocabulary, merges, normaliser, pre-tokeniser and added tokens, in canonical form. Left out are the
    file's formatting, options of the model that are switched off (newer versions write more of them), truncation,
    padding, the decoder, and the post-processor, which adds only the special tokens that are not counted.

    Parameters
    ----------
    tokenizer : path
        A ``tokenizer.json``, or a directory with one.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    BankError
        If the file is missing or no tokenizer.
    """
    path = tokenizer_file(tokenizer)
    try:
        content = json_text.decode(_bytes(path), plain=True)
        model = dict(content["model"])
        vocabulary = model.pop("vocab")
        if not isinstance(vocabulary, dict | list):
            raise ValueError("its vocabulary is neither an object nor a list")
        # A merge is "a b" in older files and ["a", "b"] in newer ones.
        merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model.pop("merges", None) or []]
        decided = {name: _without_null(content.get(name)) for name in ("added_tokens", "normalizer", "pre_tokenizer")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BankError(_damaged(path, error)) from error
    canonical = {
        "vocab": vocabulary,
        "merges": merges,
        "model": {option: value for option, value in model.items() if value is not None and value is not False},
        **decided,
    }
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tokenizer_file(tokenizer: str | PathLike[str]) -> Path:
    """Return the ``tokenizer.json`` that a path, or the directory at the path, stands for; BankError if there is
    none."""
    path = Path(tokenizer)
    path = path / "tokenizer.json" if is_directory(path) else path
    if not is_file(path):
        raise BankError(f"{path}: there is no such tokenizer; pass a tokenizer.json or the directory that holds it")
    return path


class TokenEncoder:
    """Counts the tokens of a dataset: the base model's tokenizer, and nothing else of the model.

    Parameters
    ----------
    tokenizer : path
        The base's ``tokenizer.json``, or the directory that holds it.

    Raises
    ------
    BankError
        If there is no tokenizer, or it cannot be read.

    Notes
    -----
    The histogram c estimates the dataset's law over single tokens, P(t) = c_t / Σ c, which is what the distances of
    arXiv 2507.01806 compare. The paper's code counts the tokenizer's beginning-of-sequence token with every
    row; here it is left out, as it tells datasets apart by nothing but the length of their rows.
    """

    def __init__(self, tokenizer: str | PathLike[str]) -> None:
        from tokenizers import Tokenizer

        self.path = tokenizer_file(tokenizer)
        check_patterns(self.path)
        with self._guarded():
            self._tokenizer = Tokenizer.from_str(_bytes(self.path).decode("utf-8"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = [token_id for token_id, token in added.items() if token.special]

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Make a BankError of what the tokenizers library raises at a damaged file: Exception, or a Rust panic."""
        try:
            yield
        except BankError:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise BankError(_damaged(self.path, error)) from error

    @cached_property
    def tokenizer_hash(self) -> str:
        """See :func:`tokenizer_hash`."""
        return tokenizer_hash(self.path)

    @cached_property
    def vocabulary_size(self) -> int:
        """V: one more than the largest id; BankError if that can be no vocabulary."""
        size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if not 0 < size <= MAX_VOCABULARY:
            raise BankError(
                f"{self.path}: its largest token id is {size - 1:,}; no vocabulary has more than {MAX_VOCABULARY:,} "
                "tokens, get the tokenizer again"
            )
        return size

    def encode(self, examples: Iterable[HasText]) -> DatasetSummary:
        """Count the tokens in the examples' texts (prompt and first answer), special tokens left out.

        Returns
        -------
        DatasetSummary
            With `token_counts` of shape (V,). The order of the examples does not matter.

        Raises
        ------
        DataError
            If there is no example, or no token in all of them.
        """
        texts = texts_of(examples)
        counts = np.zeros(self.vocabulary_size, dtype=np.int64)
        for batch in _batches(texts):
            with self._guarded():
                encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ids = np.concatenate([np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings])
            counts += np.bincount(ids, minlength=len(counts))
        counts[self._special] = 0  # rows may spell them out
        if not counts.any():
            raise DataError(f"the {len(texts)} rows hold no token to count: all of their texts are empty")
        return DatasetSummary(len(texts), token_counts=counts)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in groups that are small in number and in characters.

    A text longer than a whole group is cut, before white space where there is some: each cut may count a token or two
    in another way, of some ten thousand.
    """
    batch: list[str] = []
    size = 0
    for text in texts:
        for part in bounded_parts(text):
            if batch and (len(batch) == BATCH or size + len(part) > MAX_CHARACTERS):
                yield batch
                batch, size = [], 0
            batch.append(part)
            size += len(part)
    if batch:
        yield batch


def bounded_parts(text: str) -> Iterator[str]:
    """Cut a text into parts of at most :data:`MAX_CHARACTERS`, between words where there are any."""
    start = 0
    while len(text) - start > MAX_CHARACTERS:
        stop = start + MAX_CHARACTERS
        space = max(text.rfind(mark, start + 1, stop) for mark in "\n ")
        stop = space if space > 0 else stop
        yield text[start:stop]
        start = stop
    yield text[start:] if start else text


def _bytes(path: Path) -> bytes:
    try:
        return json_text.read_bytes(path)
    except OSError as error:
        raise BankError(f"{path} cannot be read: {reason(error)}") from error
    except json_text.JsonError as error:
        raise BankError(_damaged(path, error)) from error


def _without_null(value: Any) -> Any:
    """`value` without the keys whose value is null."""
    if isinstance(value, dict):
        return {key: _without_null(v) for key, v in value.items() if v is not None}
    return [_without_null(v) for v in value] if isinstance(value, list) else value


def _damaged(path: Path, error: BaseException) -> str:
    return f"{path}: is no tokenizer that the tokenizers library can read ({error}); fetch it again"
