"""Small datasets, tokenizers and summaries, all made here: the tests need no bank and no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from lorameta.encoder import DatasetSummary, SentenceEncoder
from lorameta.encoder.weights import PACKAGE

WORDS = "the cat sat on the mat . a dog ran far away ! is it an animal ? yes no perhaps not today"


@pytest.fixture
def tokenizer_path(tmp_path: Path) -> Path:
    """A byte-level BPE like that of a small base model: it adds <s>, truncates and pads unless told otherwise."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(pad_id=0, pad_token="<pad>")
    path = tmp_path / "base" / "tokenizer.json"
    path.parent.mkdir()
    tokenizer.save(str(path))
    return path


@pytest.fixture
def summaries_list() -> tuple[list[str], list[DatasetSummary]]:
    """Three datasets of a bank with every part; the second has fewer sampled rows than the others."""
    rng = np.random.default_rng(0)
    found = []
    for rows in (40, 3, 70_000):
        counts = rng.poisson(0.3, size=50) * rows
        counts[7] += 1
        found.append(
            DatasetSummary(
                rows,
                token_counts=counts.astype(np.int64),
                mean=rng.normal(size=6).astype(np.float32) / 4,
                covariance_factor=rng.normal(size=(2, 6)).astype(np.float32) / 8,
                residual_variance=float(np.float32(rng.uniform())),
                sample=rng.normal(size=(min(rows, 4), 6)).astype(np.float32) / 3,
            )
        )
    return ["ünï/cat", "dog", "eel"], found


@pytest.fixture(scope="session")
def sentence_encoder() -> SentenceEncoder:
    """The real one. Its weights, 90 MB, come with the extra `sentence`, without which there is nothing to test."""
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip(f"the optional package {PACKAGE} (90 MB of weights) is not installed")
    return SentenceEncoder()
