from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from lorameta.encoder import weights
from lorameta.errors import LorametaError, MissingExtraError


@pytest.fixture
def folder(tmp_path, tokenizer_path, monkeypatch) -> Path:
    """A folder that passes for the model's: two small files whose hashes are put in the place of the real ones."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    shutil.copy(tokenizer_path, folder)
    monkeypatch.setattr(weights, "SHA256", weights.sha256_file(folder / "model.safetensors"))
    monkeypatch.setattr(weights, "TOKENIZER_HASH", weights.tokenizer_hash(folder))
    return folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    """No package, no cache, no network, until a test says otherwise."""
    known: dict[str, Path] = {}
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.setattr(weights, "PACKAGE", "a_package_of_weights")

    def snapshot_download(model: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if local_files_only and "cache" not in known:
            raise LocalEntryNotFoundError("not in the cache")
        if not local_files_only and "hub" not in known:
            raise ConnectionError("no route to host\nand a long story")
        return str(known["cache" if local_files_only else "hub"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)

    def put(place: str, source: Path) -> Path:
        if place == "package":
            target = tmp_path / "path" / "a_package_of_weights" / "model"
            shutil.copytree(source, target)
            (target.parent / "__init__.py").write_text("raise ImportError('must not be imported')")
            importlib.invalidate_caches()
            return target
        target = tmp_path / place
        shutil.copytree(source, target)
        known[place] = target
        return target

    return put


@pytest.mark.parametrize("place", ["package", "cache", "hub"])
def test_the_model_is_found_wherever_it_lies(folder, places, place):
    found = places(place, folder)
    assert weights.sentence_model_folder() == found


def test_half_a_cached_model_calls_for_the_download(folder, places):
    (places("cache", folder) / "tokenizer.json").unlink()
    downloaded = places("hub", folder)
    assert weights.sentence_model_folder() == downloaded


def test_local_files_come_before_the_hub(folder, places):
    places("hub", folder)
    cached = places("cache", folder)
    assert weights.sentence_model_folder() == cached
    packaged = places("package", folder)
    assert weights.sentence_model_folder() == packaged


def test_a_damaged_copy_is_passed_over(folder, places):
    damaged = places("package", folder)
    (damaged / "model.safetensors").write_bytes(b"weighty")
    cached = places("cache", folder)
    assert weights.sentence_model_folder() == cached


def test_damaged_copies_are_all_named(folder, places):
    (places("package", folder) / "model.safetensors").write_bytes(b"weighty")
    (places("cache", folder) / "tokenizer.json").write_text("{}")
    with pytest.raises(LorametaError) as caught:
        weights.sentence_model_folder()
    assert not isinstance(caught.value, MissingExtraError)
    assert "model.safetensors: has the sha256" in str(caught.value)
    assert "tokenizer.json: is no tokenizer" in str(caught.value)


def test_another_tokenizer_is_refused(folder, monkeypatch):
    monkeypatch.setattr(weights, "TOKENIZER_HASH", "0" * 64)
    with pytest.raises(LorametaError, match="the tokenizer of another model"):
        weights.sentence_model_folder(folder)


def test_a_folder_that_is_given_is_the_only_one(folder, places, tmp_path):
    places("package", folder)
    assert weights.sentence_model_folder(folder) == folder
    with pytest.raises(LorametaError, match=r"lacks model\.safetensors and tokenizer\.json"):
        weights.sentence_model_folder(tmp_path / "elsewhere")


def test_without_model_and_network_the_extra_is_named(places):
    with pytest.raises(MissingExtraError) as caught:
        weights.sentence_model_folder()
    message = str(caught.value)
    assert 'pip install "lorameta[sentence]"' in message
    assert "ConnectionError: no route to host" in message
    assert "long story" not in message


def test_a_damaged_download_is_named(folder, places):
    (places("hub", folder) / "model.safetensors").write_bytes(b"half")
    with pytest.raises(LorametaError, match="has the sha256"):
        weights.sentence_model_folder()
