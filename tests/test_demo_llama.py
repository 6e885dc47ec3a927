"""`make demo-llama`: what it runs in llama.cpp, and what it says of the answers; the library is a stand-in here."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from lorameta import generate_adapter, load_examples
from lorameta.errors import LorametaError, UsageError
from lorameta.evaluate import Scorer
from lorameta.examples import demo, llama

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def adapter(tiny_bank, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "TEST", tmp_path / "test.jsonl")
    lines = demo.TRAIN.with_name("helpdesk_test.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    demo.TEST.write_text("\n".join(lines), encoding="utf-8")
    base = tmp_path / "package" / "base.gguf"
    base.parent.mkdir()
    base.write_bytes(b"GGUF")
    monkeypatch.setattr("lorameta.base_model.locate.gguf_file", lambda _: base)
    generate_adapter(demo.TRAIN, bank=tiny_bank, operator="normalized").save_pretrained(demo.OUTPUT)
    return base


def library(monkeypatch, answers):
    """A `llama_cpp` that gives these answers; the list is what it was called with."""
    calls = []
    functions = types.SimpleNamespace(llama_model_default_params=lambda: types.SimpleNamespace(use_extra_bufts=True))

    class Llama:
        def __init__(self, model, *, lora_path, **options):
            assert not functions.llama_model_default_params().use_extra_bufts  # weights are not repacked
            calls.append((model, lora_path))

        def create_completion(self, prompt, *, temperature, **options):
            assert temperature == 0.0
            return {"choices": [{"text": f" {answers[prompt]}"}]}

        def close(self):
            calls.append("closed")

    monkeypatch.setitem(sys.modules, "llama_cpp", types.SimpleNamespace(Llama=Llama))
    monkeypatch.setitem(sys.modules, "llama_cpp.llama_cpp", functions)
    return calls


def test_equal_answers_are_counted_and_the_others_are_shown(adapter, monkeypatch, capsys):
    prompts = [row.input for row in load_examples(demo.TEST)]
    base = llama_base()
    answers = dict(zip(prompts, Scorer(base, max_new_tokens=llama.TOKENS).generate(prompts, demo.OUTPUT), strict=True))
    calls = library(monkeypatch, answers)
    llama.main()
    assert "6 of 6 answers are the same" in capsys.readouterr().out
    assert calls == [(str(adapter), str(Path("demo-output") / "helpdesk-adapter.gguf")), "closed"]
    assert Path(calls[0][1]).read_bytes()[:4] == b"GGUF"
    library(monkeypatch, answers | {prompts[2]: "ANOTHER ANSWER"})
    llama.main()
    out = capsys.readouterr().out
    assert "5 of 6 answers are the same" in out
    assert "ANOTHER ANSWER" in out.split("The others:")[1]


def llama_base() -> str:
    from lorameta.adapter import Adapter

    return Adapter.from_pretrained(demo.OUTPUT).base_model


def test_a_copy_of_the_base_with_a_head_is_used_and_said(adapter, tmp_path, monkeypatch, capsys):
    prompts = [row.input for row in load_examples(demo.TEST)]
    calls = library(monkeypatch, dict.fromkeys(prompts, "home"))
    copy = tmp_path / "helpdesk-adapter-base.gguf"
    done = types.SimpleNamespace(path=tmp_path / "a.gguf", details={"model": str(copy)})
    monkeypatch.setattr("lorameta.export.export_gguf", lambda *_: done)
    llama.main()
    assert calls[0] == (str(copy), str(done.path))
    assert "fitted head" in capsys.readouterr().out


def test_what_is_missing_is_said_with_its_remedy(adapter, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(LorametaError, match=r"(?s)compiler.*pip install llama-cpp-python"):
        llama.main()
    monkeypatch.setattr("lorameta.base_model.locate.gguf_file", lambda _: None)
    with pytest.raises(UsageError, match="no GGUF file"):
        llama.main()
    monkeypatch.setattr(demo, "OUTPUT", Path("elsewhere"))
    with pytest.raises(UsageError, match="make demo"):
        llama.main()


def test_make_compiles_it_and_runs_it():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "lorameta.examples.llama" in makefile
    assert "$(INSTALL) llama-cpp-python" in makefile
