"""Loading a base: what is wrong with it is said by name, and neither code nor pickles of it are touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lorameta.base_model import config as base
from lorameta.errors import BankError, LorametaError, UsageError

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
from lorameta.base_model.load import load_base, load_tokenizer, pass_dtype  # noqa: E402
from tests.doctor.configs import CONFIGS  # noqa: E402


def test_a_configuration_is_enough(tmp_path):
    CONFIGS["qwen2"]().save_pretrained(tmp_path)
    assert base.find_config(tmp_path).model_type == "qwen2"
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    with pytest.raises(BankError, match=r"no config\.json"):
        base.find_config(tmp_path)
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(BankError, match="cannot be"):
        base.find_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "never-heard-of"}))
    with pytest.raises(BankError, match="never-heard-of"):
        base.find_config(tmp_path)
    transformers.T5Config().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="encoder and a decoder"):
        base.find_config(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BankError, match=r"config\.json of nobody/nothing-7b is not in the Hub's cache.*hf download"):
        base.find_config("nobody/nothing-7b")
    with pytest.raises(BankError, match="no id of the Hub"):
        base.find_config("not an id/at all/x")


def test_code_of_a_repository_is_never_run(tmp_path):
    (tmp_path / "configuration_evil.py").write_text("raise SystemExit('run')")
    content = {"model_type": "evil", "auto_map": {"AutoConfig": "configuration_evil.EvilConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(BankError):
        base.find_config(tmp_path)


@pytest.fixture
def copied(tiny_bank, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bank / "base", tmp_path / "base"))


@pytest.mark.parametrize("model_type", ["mistral", "evil"])
def test_a_base_with_code_of_its_own_is_refused_by_name_and_never_run(copied, model_type):
    (copied / "evil.py").write_text("raise SystemExit('run')")
    content = json.loads((copied / "config.json").read_text())
    content |= {"model_type": model_type, "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (copied / "config.json").write_text(json.dumps(content))
    with pytest.raises(BankError, match=r"base .*auto_map.*never run"):
        load_base(copied)


def test_code_of_a_tokenizer_is_never_run(copied):
    (copied / "evil.py").write_text("raise SystemExit('run')")
    content = json.loads((copied / "tokenizer_config.json").read_text())
    content |= {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": [None, "evil.T"]}}
    (copied / "tokenizer_config.json").write_text(json.dumps(content))
    assert type(load_tokenizer(copied)).__module__.startswith("transformers.")


def test_pickled_weights_are_refused_by_name_and_never_opened(copied):
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(BankError, match=r"pytorch_model\.bin only, a pickle"):
        load_base(copied)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2", b"\xff" * 64])
def test_a_damaged_file_is_an_error_that_names_the_base(copied, file, content):
    (copied / file).write_bytes(content)
    with pytest.raises(LorametaError, match="base"):
        load_base(copied)


@pytest.mark.parametrize(
    ("amx", "kernels", "expected"),
    [(True, "AVX512", "bfloat16"), (True, "AVX2", None), (True, "DEFAULT", None), (False, "AVX512", None)],
)
def test_passes_are_in_bfloat16_where_pytorch_may_use_amx(monkeypatch, amx, kernels, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kernels)
    assert pass_dtype() == expected
