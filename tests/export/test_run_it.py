"""What is said of running a GGUF adapter: the base's file where it is known, and the prompt of the adapter's rows."""

from __future__ import annotations

from pathlib import Path

from lorameta.export.result import Exported
from lorameta.export.run_it import llama_cpp

PROMPT = {"prefix": "Say it.\n\nInput: ", "suffix": "\n\nOutput:", "one_line": True}


def said(model: str | None = None, report: dict[str, object] | None = None, folder: Path | None = None) -> str:
    done = Exported(Path("/my place/adapter.gguf"), "gguf", "somebody/base", "f32", 2, 10, 0.0, {"model": model})
    return llama_cpp(done, report or {}, folder=folder)


def test_the_prompt_is_whole_and_ends_where_answers_do():
    text = said(report={"prompt": PROMPT})
    assert "llama-server -m BASE.gguf --lora '/my place/adapter.gguf'\n" in text
    call = text.splitlines()[-1]
    assert r"model('Say it.\n\nInput: AN INPUT\n\nOutput:', max_tokens=64, temperature=0, stop=[" in call
    assert "'PROMPT'" in said()
    assert "stop" not in said()


def test_a_base_with_a_head_of_its_own_takes_the_bases_place():
    base = "/my place/adapter-base.gguf"
    assert "llama-server -m '/my place/adapter-base.gguf' --lora" in said(base)
    assert "llama-server -m adapter-base.gguf --lora adapter.gguf\n" in said(base, folder=Path())
    alone = said("/my place/adapter.gguf")
    assert "llama-server -m '/my place/adapter.gguf'\n" in alone
    assert "lora_path" not in alone
