"""A GGUF file as a directory for transformers: the same model, the same tokens, or a refusal."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")
import tokenizers  # noqa: E402

from lorameta.base_model.convert import FILES, convert_gguf, interleave  # noqa: E402
from lorameta.base_model.load import load_base  # noqa: E402
from lorameta.errors import BankError  # noqa: E402
from tests.export.gguf_base import permute, write_gguf_base  # noqa: E402
from tests.export.models import tiny_model  # noqa: E402


@pytest.fixture(scope="module")
def model(tiny_bank):
    size = len(transformers.AutoTokenizer.from_pretrained(tiny_bank / "base"))
    return tiny_model("LlamaForCausalLM", vocab_size=size, tie_word_embeddings=True, head_dim=8)


@pytest.fixture(scope="module")
def source(model, tiny_bank, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "base.gguf"
    return write_gguf_base(model, path, tiny_bank / "base" / "tokenizer.json")


@pytest.fixture(scope="module")
def directory(source, tmp_path_factory):
    return convert_gguf(source, tmp_path_factory.mktemp("converted") / "base")


def test_the_converted_model_is_the_model(model, directory):
    assert {path.name for path in directory.iterdir()} == set(FILES)
    found = load_base(directory).model
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.allclose(found(ids).logits, model(ids).logits, atol=1e-5)
    wanted = model.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in found.state_dict().items())


def test_the_tokenizer_is_that_of_the_file(directory, tiny_bank):
    found = transformers.AutoTokenizer.from_pretrained(directory)
    given = transformers.AutoTokenizer.from_pretrained(tiny_bank / "base")
    # the file says that digits are split one by one
    assert given("number 1984")["input_ids"] != found("number 1984")["input_ids"]
    digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    backend = given.backend_tokenizer
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    for text in ("Input: dog number 1984\n\nOutput:", "two  spaces, and the end</s>", "ünïcode 7"):
        assert found(text)["input_ids"] == given(text)["input_ids"]
    assert found.eos_token == "</s>"
    assert found.tokenize("1984") == list("1984")


def test_bfloat16_halves_the_file_and_rounds(source, directory, tmp_path):
    half = convert_gguf(source, tmp_path / "half", dtype="bfloat16")
    whole, small = (d / "model.safetensors" for d in (directory, half))
    assert small.stat().st_size < 0.6 * whole.stat().st_size
    exact, rounded = load_base(directory).model.state_dict(), load_base(half).model.state_dict()
    assert all(torch.equal(value.bfloat16().float(), rounded[name]) for name, value in exact.items())


def test_interleave_undoes_the_order_of_llama_cpp():
    weight = torch.randn(24, 5).numpy()
    assert (interleave(permute(weight, 3), 3) == weight).all()
    assert not (permute(weight, 3) == weight).all()


def test_what_cannot_be_converted_is_refused_and_nothing_is_left(tmp_path):
    other = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(other, "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BankError, match="gpt2"):
        convert_gguf(other, tmp_path / "out")
    text = tmp_path / "text.gguf"
    text.write_text(json.dumps({"no": "gguf"}))
    with pytest.raises(BankError, match="cannot be read as a GGUF"):
        convert_gguf(text, tmp_path / "out")
    with pytest.raises(BankError, match="cannot be read as a GGUF"):
        convert_gguf(tmp_path / "none.gguf", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.gguf", "text.gguf"]
