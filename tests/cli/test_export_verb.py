"""`lorameta export`: both formats from the command line, what it prints, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytest.importorskip("gguf")


@pytest.fixture
def adapter(tiny_bank: Path) -> Path:
    return tiny_bank / "adapters" / "opposite"


@pytest.fixture
def base(tiny_bank: Path) -> Path:
    return tiny_bank / "base"


def test_gguf(lorameta, adapter, base, tmp_path):
    import gguf

    out = tmp_path / "my adapter.gguf"
    result = lorameta("export", str(adapter), "--format", "gguf", "-o", str(out), "--base", str(base))
    assert result.code == 0, result.err
    reader = gguf.GGUFReader(out)
    assert reader.fields["general.architecture"].contents() == "llama"
    assert len(reader.tensors) == 12  # q, k, v of two layers
    assert f"--lora '{out}'" in result.out
    assert "6 changed by the adapter" in result.out
    assert "Rounding     none" in result.out


def test_merged_as_json(lorameta, adapter, base, tmp_path):
    out = tmp_path / "merged"
    result = lorameta(
        "export", str(adapter), "--format", "merged", "-o", str(out), "--base", str(base), "--shard-size", "60kB",
        "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    report = result.json
    assert (report["format"], report["modules"], report["dtype"]) == ("merged", 6, "base")
    files = report["details"]["files"]
    assert len(files) > 1
    assert all((out / name).stat().st_size < 64_000 for name in files)
    name = "model.layers.1.self_attn.q_proj.weight"
    home = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"][name]
    factors = load_file(adapter / "adapter_model.safetensors")
    A, B = (factors[f"base_model.model.{name.removesuffix('.weight')}.lora_{half}.weight"] for half in "AB")
    expected = load_file(base / "model.safetensors")[name] + 8 / 4 * B @ A
    np.testing.assert_allclose(load_file(out / home)[name], expected, rtol=0, atol=1e-5)
    assert report["total_seconds"] > 0


def test_rounding_that_matters_is_explained(lorameta, adapter, base, tmp_path):
    words = ["export", str(adapter), "--format", "merged", "--base", str(base)]
    result = lorameta(*words, "-o", str(tmp_path / "a"), "--dtype", "bf16")
    assert result.code == 0, result.err
    lost = float(result.out.split("Rounding")[1].split("%")[0]) / 100
    assert ("--dtype f16 keeps more" in result.out) == (lost > 0.01)
    assert "AutoModelForCausalLM.from_pretrained" in result.out
    assert "--dtype" not in lorameta(*words, "-o", str(tmp_path / "b")).out


@pytest.mark.parametrize("format", ["gguf", "merged"])
def test_nothing_is_replaced_unasked(lorameta, adapter, base, tmp_path, format):
    out = tmp_path / "out"
    words = ["export", str(adapter), "--format", format, "-o", str(out), "--base", str(base)]
    assert lorameta(*words).code == 0
    again = lorameta(*words, "--dtype", "f16")
    assert again.code == 2
    assert "--force" in again.err
    assert lorameta(*words, "--dtype", "f16", "--force").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onnx"], "unknown format 'onnx'; there are gguf, merged"),
        (["--format", "gguf", "--dtype", "q8_0"], "there are f32, f16, bf16"),
        (["--format", "gguf", "--shard-size", "4GB"], "is for --format merged"),
        (["--format", "merged", "--shard-size", "big"], "give e.g. 4GB or 500MB"),
        (["--format", "merged", "--shard-size", "0"], "give e.g. 4GB or 500MB"),
        (["--format", "gguf", "--base", "nowhere"], "there is no directory nowhere"),
    ],
)
def test_wrong_calls(lorameta, adapter, base, tmp_path, words, message):
    given = [] if "--base" in words else ["--base", str(base)]
    result = lorameta("export", str(adapter), "-o", str(tmp_path / "out"), *given, *words)
    assert result.code == 2
    assert message in result.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_adapter_is_refused(lorameta, base, tmp_path):
    result = lorameta("export", str(base), "--format", "gguf", "-o", str(tmp_path / "out"), "--base", str(base))
    assert result.code == 2
    assert "it holds a whole model, not an adapter" in result.err


def test_without_the_package_the_extra_is_named(lorameta, adapter, base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    words = ["export", str(adapter), "--base", str(base), "-o", str(tmp_path / "out")]
    result = lorameta(*words, "--format", "gguf")
    assert result.code == 2
    assert 'pip install "lorameta[gguf]"' in result.err
    assert lorameta(*words, "--format", "merged").code == 0
