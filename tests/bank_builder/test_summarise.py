"""Summaries of a bank: from datasets, from a file, with sentences."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder.local import build
from lorameta.data import load_examples
from lorameta.encoder import Summaries
from lorameta.errors import BankError
from tests.bank_builder.building import options

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def test_summaries_alone(parts, tmp_path, tiny_bank):
    file = tiny_bank / "summaries.safetensors"
    build(tmp_path / "bank", **options(parts, datasets=None, summaries=file))
    bank, old = AdapterBank.open(tmp_path / "bank"), AdapterBank.open(tiny_bank)
    np.testing.assert_array_equal(bank.summaries.means, old.summaries.select(bank.ids).means)
    assert bank.summaries.has("sentence")
    shutil.copytree(parts / "adapters" / "opposite", parts / "adapters" / "oposite")
    with pytest.raises(BankError, match="oposite: the summaries lack it; did you mean opposite"):
        build(tmp_path / "other", **options(parts, datasets=None, summaries=file))
    shutil.rmtree(parts / "adapters" / "oposite")
    known = Summaries.load(file)
    from dataclasses import replace

    replace(known, tokenizer_hash="0" * 64).save(tmp_path / "foreign.safetensors")
    with pytest.raises(BankError, match="another tokenizer"):
        build(tmp_path / "other", **options(parts, datasets=None, summaries=tmp_path / "foreign.safetensors"))


def test_sentence_summaries(parts, tmp_path, monkeypatch):
    """The encoder is replaced; what it would be asked, and what becomes of its answer, is not."""
    from lorameta.bank_builder import summarise
    from lorameta.encoder.sentence import moments
    from lorameta.encoder.summary import DatasetSummary

    class Fake:
        model, sha256, MAX_ROWS, KEEPS = "fake", "0" * 64, 2000, "end"

        def __init__(self, max_rows):
            self.max_rows = max_rows

        def encode(self, examples, seed):
            cloud = np.array([[len(example.text), example.text.count("e")] for example in examples], float) / 100
            mean, factor, residual = moments(cloud, 2)
            sample = cloud[:3].astype(np.float32)
            return DatasetSummary(len(cloud), mean=mean, covariance_factor=factor, residual_variance=residual,
                                  sample=sample)  # fmt: skip

    monkeypatch.setattr(summarise, "SentenceEncoder", Fake)
    build(tmp_path / "bank", **options(parts, sentences=True))
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.summaries.has("sentence")
    assert bank.summaries.has("tokens")
    assert bank.manifest.encoders["sentence"] == {
        "model": "fake", "sha256": "0" * 64, "rows_at_most": 2000, "keeps": "end",
    }  # fmt: skip
    texts = [example.text for example in load_examples(parts / "datasets" / "opposite.jsonl")]
    mean = np.mean([[len(text), text.count("e")] for text in texts], axis=0) / 100
    np.testing.assert_allclose(bank.summaries["opposite"].mean, mean, rtol=1e-3)
