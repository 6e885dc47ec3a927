"""An update of a head that the base ties to its embedding: a weight of its own, merged and in GGUF."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorameta.adapter import Adapter
from lorameta.base_model.convert import convert_gguf
from lorameta.errors import BankError, UsageError
from lorameta.export import export, export_gguf
from tests.export.gguf_base import write_gguf_base
from tests.export.models import linear_shapes, save_adapter, save_base, tiny_model

HEAD = {"lm_head": (64, 32)}


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("LlamaForCausalLM", tie_word_embeddings=True)


@pytest.fixture
def adapter(model: Any, tmp_path: Path) -> Path:
    base = save_base(model, tmp_path / "base")
    return save_adapter(linear_shapes(model) | HEAD, tmp_path / "adapter", base, alpha=0.2)


def logits(model: Any) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.tensor([[1, 7, 12, 40, 3]])).logits[0].float().numpy()


def expected(model: Any, adapter: Path) -> np.ndarray:
    """The base with the dense update in its layers and in a head of its own."""
    changed = copy.deepcopy(model)
    changed.lm_head.weight = torch.nn.Parameter(changed.lm_head.weight.detach().clone())
    for name, pair in Adapter.from_pretrained(adapter).modules.items():
        changed.get_submodule(name).weight.data += torch.from_numpy(pair.delta())
    return logits(changed)


def test_merged_gives_the_head_a_weight_of_its_own(model: Any, adapter: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM

    done = export(adapter, tmp_path / "merged", format="merged")
    assert done.details["untied"]
    assert json.loads((done.path / "config.json").read_text())["tie_word_embeddings"] is False
    tensors = load_file(done.path / "model.safetensors")
    embedding = model.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_array_equal(tensors["model.embed_tokens.weight"], embedding)
    update = Adapter.from_pretrained(adapter).modules["lm_head"].delta()
    np.testing.assert_allclose(tensors["lm_head.weight"], embedding + update, atol=1e-6)
    loaded = AutoModelForCausalLM.from_pretrained(done.path).eval()
    np.testing.assert_allclose(logits(loaded), expected(model, adapter), atol=1e-4)


def test_a_base_without_a_known_embedding_is_refused(adapter: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    file = tmp_path / "base" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.tokens.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(BankError, match="lm_head shares its weight with the embedding"):
        export(adapter, tmp_path / "merged", format="merged")


def gguf_of(model: Any, directory: Path) -> Path:
    pytest.importorskip("gguf")
    return write_gguf_base(model, directory / "base.gguf")


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    import gguf

    return {tensor.name: np.asarray(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def test_gguf_is_the_plain_adapter_and_a_base_with_a_head(model: Any, adapter: Path, tmp_path: Path) -> None:
    import gguf

    base = gguf_of(model, tmp_path)
    before = base.read_bytes()
    done = export_gguf(adapter, tmp_path / "mine.gguf", base_gguf=base)
    assert done.details["model"] == str(tmp_path / "mine-base.gguf")
    assert base.read_bytes() == before
    assert not any(name.split(".")[0] == "output" for name in tensors_of(done.path))
    assert len(tensors_of(done.path)) == 2 * len(linear_shapes(model))
    old, new = tensors_of(base), tensors_of(tmp_path / "mine-base.gguf")
    assert set(new) - set(old) == {"output.weight"}
    assert all(np.array_equal(new[name], array) for name, array in old.items())
    head = model.lm_head.weight.detach().numpy() + Adapter.from_pretrained(adapter).modules["lm_head"].delta()
    np.testing.assert_allclose(new["output.weight"], head, rtol=1e-3, atol=1e-4)  # float16
    fields = [gguf.GGUFReader(path).fields for path in (base, tmp_path / "mine-base.gguf")]
    names = [{name for name in found if not name.startswith("GGUF.")} for found in fields]
    assert names[0] == names[1]
    assert all(fields[0][name].contents() == fields[1][name].contents() for name in names[0])


def test_an_adapter_of_the_head_alone_is_the_base_with_a_head(model: Any, tmp_path: Path) -> None:
    base = save_base(model, tmp_path / "base")
    adapter = save_adapter(HEAD, tmp_path / "adapter", base)
    done = export_gguf(adapter, tmp_path / "mine.gguf", base_gguf=gguf_of(model, tmp_path))
    assert done.details["model"] == str(done.path)
    assert "output.weight" in tensors_of(done.path)
    assert sorted(path.name for path in tmp_path.glob("*.gguf")) == ["base.gguf", "mine.gguf"]


def test_without_the_file_of_the_base_the_remedy_is_named(adapter: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    with pytest.raises(UsageError, match=r"(?s)--base-gguf.*merged.*--where block"):
        export_gguf(adapter, tmp_path / "mine.gguf")
    assert not (tmp_path / "mine.gguf").exists()


def test_a_file_of_another_base_is_refused(model: Any, adapter: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    qwen = write_gguf_base(tiny_model("Qwen2ForCausalLM"), tmp_path / "qwen.gguf")
    with pytest.raises(BankError, match="architecture qwen2"):
        export_gguf(adapter, tmp_path / "mine.gguf", base_gguf=qwen)
    untied = write_gguf_base(tiny_model("LlamaForCausalLM", tie_word_embeddings=False), tmp_path / "untied.gguf")
    with pytest.raises(BankError, match="head of its own"):
        export_gguf(adapter, tmp_path / "mine.gguf", base_gguf=untied)
    wide = tiny_model("LlamaForCausalLM", tie_word_embeddings=True, vocab_size=65)
    with pytest.raises(BankError, match="shape"):
        export_gguf(adapter, tmp_path / "mine.gguf", base_gguf=write_gguf_base(wide, tmp_path / "wide.gguf"))
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(BankError, match="cannot be read"):
        export_gguf(adapter, tmp_path / "mine.gguf", base_gguf=tmp_path / "text.gguf")
    assert not (tmp_path / "mine.gguf").exists()


def test_the_verb_says_what_it_wrote_and_why(lorameta: Any, model: Any, adapter: Path, tmp_path: Path) -> None:
    base = gguf_of(model, tmp_path)
    done = lorameta("export", adapter, "--format", "gguf", "--output", tmp_path / "mine.gguf", "--base-gguf", base)
    assert done.code == 0, done.err
    assert "ties to its embedding" in done.out
    assert f"-m {tmp_path / 'mine-base.gguf'} --lora {tmp_path / 'mine.gguf'}" in done.out
    refused = lorameta("export", adapter, "--format", "merged", "--output", tmp_path / "m", "--base-gguf", base)
    assert refused.code == 2


def test_the_written_base_reads_back_as_a_model(tiny_bank: Path, tmp_path: Path) -> None:
    """By the converter that reads GGUF bases: untied, and with the logits of the update."""
    from transformers import AutoModelForCausalLM

    pytest.importorskip("gguf")
    tokenizer = tiny_bank / "base" / "tokenizer.json"
    tokens = len(json.loads(tokenizer.read_text())["model"]["vocab"])
    model = tiny_model("LlamaForCausalLM", tie_word_embeddings=True, vocab_size=tokens)
    base = save_base(model, tmp_path / "base")
    adapter = save_adapter({"lm_head": (tokens, 32)}, tmp_path / "adapter", base, alpha=0.2)
    file = write_gguf_base(model, tmp_path / "base.gguf", tokenizer)
    done = export_gguf(adapter, tmp_path / "mine.gguf", base_gguf=file)
    loaded = AutoModelForCausalLM.from_pretrained(convert_gguf(done.path, tmp_path / "converted")).eval()
    assert not loaded.config.tie_word_embeddings
    np.testing.assert_allclose(logits(loaded), expected(model, adapter), atol=2e-2)


def test_ollama_gets_the_base_with_a_head(model: Any, adapter: Path, tmp_path: Path) -> None:
    done = export(adapter, tmp_path / "ollama", format="ollama", from_model=str(gguf_of(model, tmp_path)))
    assert sorted(path.name for path in done.path.iterdir()) == ["Modelfile", "adapter-base.gguf", "adapter.gguf"]
    lines = (done.path / "Modelfile").read_text().splitlines()
    assert lines[:2] == ["FROM ./adapter-base.gguf", "ADAPTER ./adapter.gguf"]
    assert done.details["model"] == str(done.path / "adapter-base.gguf")
