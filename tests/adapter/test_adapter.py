"""An adapter that is written: the same bytes again, what PEFT reads and computes with, and what cannot be saved."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import numpy as np
import pytest

from lorameta.adapter import Adapter, LoraPair
from lorameta.errors import UsageError
from tests.adapter.adapters import CONFIG, ENVIRONMENT, WEIGHTS, adapter_of, assert_deltas
from tests.peft_helpers import DOWN, Q, dense, random_factors, tiny_mistral


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_round_trip(tmp_path, dtype):
    factors = random_factors(2)
    adapter = adapter_of(factors, scaling=0.75, base_revision="abc", weights={"x": 0.25, "y": 0.75})
    directory = adapter.save_pretrained(tmp_path / "out", dtype=dtype)
    again = Adapter.from_pretrained(directory)
    assert_deltas(again, dense(factors, 0.75 * 3), rtol=2e-2 if dtype == "bfloat16" else 1e-6)
    assert (again.base_model, again.base_revision, again.rank) == ("some/base", "abc", 3)
    config = json.loads((directory / CONFIG).read_text())
    assert config["lora_alpha"] == config["r"] == 3
    assert config["target_modules"] == sorted(factors)
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    assert not config["use_rslora"]
    assert sorted(path.name for path in directory.iterdir()) == ["README.md", CONFIG, WEIGHTS]
    card = (directory / "README.md").read_text()
    assert "| y | 0.750000 |" in card
    assert "base_model" in card


def test_modules_of_unequal_rank_are_padded(tmp_path):
    factors = random_factors(3, rank=2, shapes={Q: (12, 10)}) | random_factors(4, rank=5, shapes={DOWN: (10, 14)})
    adapter = Adapter({module: LoraPair(A, B) for module, (A, B) in factors.items()}, "b")
    again = Adapter.from_pretrained(adapter.save_pretrained(tmp_path / "out"))
    assert [pair.rank for pair in again.modules.values()] == [5, 5]
    for module, (A, B) in factors.items():
        np.testing.assert_allclose(again.modules[module].delta(), B.astype(float) @ A, atol=1e-5)


def test_same_adapter_same_bytes(tmp_path):
    factors = random_factors(5)
    first = adapter_of(factors).save_pretrained(tmp_path / "one")
    second = adapter_of(dict(reversed(factors.items()))).save_pretrained(tmp_path / "two")
    third = adapter_of(factors).save_pretrained(tmp_path / "two")
    assert second == third
    for name in (CONFIG, WEIGHTS, "README.md"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_card_is_written_as_given(tmp_path):
    directory = adapter_of(random_factors(0)).save_pretrained(tmp_path / "a", card="# Für mich\n")
    assert (directory / "README.md").read_bytes() == "# Für mich\n".encode()


def test_numbers_that_cannot_be_saved_are_named(tmp_path):
    factors = random_factors(0)
    factors[Q][1][0, 0] = np.nan
    with pytest.raises(UsageError, match=rf"{Q}\.lora_B\.weight has 1 values that are NaN"):
        adapter_of(factors).save_pretrained(tmp_path / "out")
    with pytest.raises(UsageError, match="no modules"):
        Adapter({}, "b").save_pretrained(tmp_path / "out")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        adapter_of(random_factors(0)).save_pretrained(tmp_path / "out", dtype="int8")
    assert list(tmp_path.iterdir()) == []


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="no product"):
        LoraPair(np.zeros((3, 4)), np.zeros((5, 2)))


def base_logits(model):
    import torch

    ids = torch.arange(20).reshape(2, 10)
    with torch.inference_mode():
        return model(ids).logits.double().numpy()


def test_peft_loads_it_and_computes_with_the_dense_update(tmp_path):
    """Logits of base + PEFT adapter equal those of a base whose weights had ΔW added, and lorameta is not needed."""
    import torch
    from peft import PeftModel

    base = tiny_mistral()
    rng = np.random.default_rng(7)
    modules, merged = {}, copy.deepcopy(base)
    for name, module in base.named_modules():
        if name.endswith(("q_proj", "v_proj", "down_proj")) and name != "model.layers.0.mlp.down_proj":
            d_out, d_in = module.weight.shape
            rank = 2 if "v_proj" in name else 4
            modules[name] = LoraPair(rng.normal(size=(rank, d_in)) / 8, rng.normal(size=(d_out, rank)), 1.5)
            update = 1.5 * modules[name].B.astype(np.float64) @ modules[name].A.astype(np.float64)
            with torch.no_grad():
                merged.get_submodule(name).weight += torch.from_numpy(update).float()
    directory = Adapter(modules, "tiny", weights={"a": 1.0}).save_pretrained(tmp_path / "adapter")
    plain, expected = base_logits(base), base_logits(merged)
    assert np.abs(plain - expected).max() > 0.1
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), str(directory)).eval()
    np.testing.assert_allclose(base_logits(loaded), expected, atol=2e-5)
    assert {name.split(".lora_A")[0].removeprefix("base_model.model.")
            for name, _ in loaded.named_modules() if name.endswith("lora_A.default")} == set(modules)  # fmt: skip

    base.save_pretrained(tmp_path / "base")
    np.save(tmp_path / "expected.npy", expected)
    script = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lorameta":
            raise ImportError("lorameta is blocked")
sys.meta_path.insert(0, Blocked())
try:
    import lorameta
except ImportError:
    pass
else:
    raise SystemExit("lorameta could be imported")
import warnings
warnings.simplefilter("error")  # missing or unexpected keys only warn in PEFT
warnings.filterwarnings("ignore", category=DeprecationWarning)
warnings.filterwarnings("ignore", category=FutureWarning)
import numpy, torch
from peft import PeftModel
from transformers import MistralForCausalLM
base = MistralForCausalLM.from_pretrained({str(tmp_path / "base")!r})
model = PeftModel.from_pretrained(base, {str(directory)!r}).eval()
with torch.inference_mode():
    logits = model(torch.arange(20).reshape(2, 10)).logits.double().numpy()
print(float(abs(logits - numpy.load({str(tmp_path / "expected.npy")!r})).max()))
"""
    run = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.strip().splitlines()[-1]) < 2e-5


def test_reading_adapters_needs_no_torch():
    heavy = {"torch", "peft", "transformers", "scipy"}
    script = "import sys, lorameta.adapter, lorameta.bank, lorameta.combiner; print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert "'numpy'" in run.stdout
    assert [name for name in heavy if f"'{name}'" in run.stdout] == []
