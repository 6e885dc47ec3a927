"""The whole story, from rows to logits, against arithmetic that shares no code with lorameta."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank
from lorameta.data import load_examples
from lorameta.errors import BankError, DataError, UsageError
from lorameta.generate import generate_adapter, mix

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

PROMPT = "Definition: Say what sound the animal makes.\n\nInput: cow farm 3\n\nOutput:"
#: Loads the adapter where lorameta cannot be imported and prints the logits of the prompt's last token.
ALONE = """
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lorameta":
            raise ModuleNotFoundError("lorameta is not installed here")

sys.meta_path.insert(0, Refuse())
try:
    import lorameta
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("lorameta could be imported")
import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

directory, prompt = sys.argv[1:]
base = PeftConfig.from_pretrained(directory).base_model_name_or_path
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), directory)
with torch.no_grad():
    logits = model(**AutoTokenizer.from_pretrained(base)(prompt, return_tensors="pt")).logits[0, -1]
print(json.dumps(logits.tolist()))
"""


def dense_updates(bank: Path, weights: dict[str, float]) -> dict[str, torch.Tensor]:
    """Σ w (alpha / r) B A by module, in float64, straight from the files."""
    found: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        directory = bank / "adapters" / name
        config = json.loads((directory / "adapter_config.json").read_text())
        tensors = load_file(directory / "adapter_model.safetensors")
        for key, A in tensors.items():
            if ".lora_A." not in key:
                continue
            B = tensors[key.replace(".lora_A.", ".lora_B.")]
            module = key.removeprefix("base_model.model.").partition(".lora_A")[0]
            update = weight * config["lora_alpha"] / config["r"] * (B.double() @ A.double())
            found[module] = found.get(module, 0) + update
    return found


def best_of_rank(update: torch.Tensor, rank: int) -> torch.Tensor:
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ V[:rank]


@pytest.mark.parametrize("distance", ["js", "kl"])
def test_the_update_is_the_best_approximation_of_the_weighted_sum(tiny_bank, tiny_rows, distance):
    adapter = generate_adapter(tiny_rows, bank=tiny_bank, distance=distance, operator="normalized", temperature=0.7)
    assert sum(adapter.weights.values()) == pytest.approx(1)
    expected = dense_updates(tiny_bank, adapter.weights)
    assert set(adapter.modules) == set(expected)
    for module, pair in adapter.modules.items():
        best = best_of_rank(expected[module], adapter.rank)
        np.testing.assert_allclose(pair.delta(), best.numpy(), atol=1e-5)
        error = torch.linalg.norm(expected[module] - best) / torch.linalg.norm(expected[module])
        assert adapter.report["truncation_error"][module] == pytest.approx(error.item(), abs=1e-5)


def test_the_nearest_adapter_comes_back_as_it_is(tiny_bank, tiny_rows):
    adapter = generate_adapter(tiny_rows, bank=tiny_bank, operator="nearest")
    assert adapter.weights == {"animal_sound": 1.0}
    assert adapter.report["effective_number"] == 1
    for module, update in dense_updates(tiny_bank, adapter.weights).items():
        np.testing.assert_allclose(adapter.modules[module].delta(), update.numpy(), atol=1e-6)


def test_the_saved_adapter_changes_the_logits_by_just_that_update_without_lorameta(tiny_bank, tiny_rows, tmp_path):
    adapter = generate_adapter(tiny_rows, bank=tiny_bank, operator="normalized", combiner="concat")
    directory = adapter.save_pretrained(tmp_path / "adapter")
    base = AdapterBank.open(tiny_bank).base_model
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    inputs = AutoTokenizer.from_pretrained(base)(PROMPT, return_tensors="pt")
    with torch.no_grad():
        before = model(**inputs).logits[0, -1]
        for module, update in dense_updates(tiny_bank, adapter.weights).items():
            model.get_submodule(module).weight += update.float()
        expected = model(**inputs).logits[0, -1]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(directory), PROMPT],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = torch.tensor(json.loads(done.stdout))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (found - before).abs().max() > 1e-3


def test_rows_may_come_as_a_file_a_list_or_a_generator(tiny_bank, tiny_rows):
    rows = [json.loads(line) for line in tiny_rows.read_text().splitlines()]
    ways = [tiny_rows, str(tiny_rows), rows, iter(rows), load_examples(tiny_rows)]
    weights = [generate_adapter(way, bank=AdapterBank.open(tiny_bank)).weights for way in ways]
    assert all(found == weights[0] for found in weights)


def test_a_hugging_face_dataset_is_a_dataset(tiny_bank, tiny_rows):
    datasets = pytest.importorskip("datasets")
    rows = [json.loads(line) for line in tiny_rows.read_text().splitlines()]
    found = generate_adapter(datasets.Dataset.from_list(rows), bank=tiny_bank)
    assert found.weights == generate_adapter(tiny_rows, bank=tiny_bank).weights


def test_the_same_rows_give_the_same_bytes(tiny_bank, tiny_rows, tmp_path):
    names = ("adapter_config.json", "adapter_model.safetensors", "README.md")
    first, second = (
        [(generate_adapter(tiny_rows, bank=tiny_bank).save_pretrained(tmp_path / n) / f).read_bytes() for f in names]
        for n in ("one", "two")
    )
    assert first == second


def test_the_order_of_the_bank_changes_nothing(tiny_bank, tiny_rows):
    bank = AdapterBank.open(tiny_bank)
    straight = generate_adapter(tiny_rows, bank=bank, operator="normalized")
    turned = generate_adapter(tiny_rows, bank=bank.select(bank.ids[::-1]), operator="normalized")
    assert turned.weights == pytest.approx(straight.weights)
    for module, pair in straight.modules.items():
        np.testing.assert_allclose(turned.modules[module].delta(), pair.delta(), atol=1e-6)


def test_rows_without_answers_are_enough(tiny_bank):
    adapter = generate_adapter([{"text": PROMPT}, {"text": PROMPT.replace("cow", "dog")}], bank=tiny_bank)
    assert isinstance(adapter, Adapter)
    assert adapter.report["rows"] == 2


def test_a_mixture_reads_no_adapter(tiny_bank, tiny_rows, monkeypatch):
    monkeypatch.setattr(AdapterBank, "__getitem__", lambda self, id: pytest.fail(f"{id} was read"))
    mixture = mix(tiny_rows, bank=tiny_bank, operator="normalized")
    assert mixture.ids[int(np.argmin(mixture.distances))] == "animal_sound"
    assert mixture.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"distance": "hamming"}, UsageError, "js, kl, wasserstein"),
        ({"operator": "magic"}, UsageError, "nearest, uniform, neural, transfer, multi_task, sparse, trial, search"),
        ({"combiner": "glue"}, UsageError, "delta, concat, factor"),
        ({"temperature": -1.0}, UsageError, "temperature"),
        ({"top_k": 5}, UsageError, "top_k"),
        ({"rank": 0}, UsageError, "rank"),
        ({"bank": "no/such/bank"}, BankError, "no/such/bank"),
        ({"input_column": "questoin"}, DataError, "questoin"),
    ],
)
def test_what_cannot_work_is_named(tiny_bank, tiny_rows, options, error, named):
    with pytest.raises(error, match=named):
        generate_adapter(tiny_rows, **({"bank": tiny_bank} | options))
