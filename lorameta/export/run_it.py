"""How to run what was exported, with the base where it is known and the prompt that the adapter was made for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorameta.base_model.locate import gguf_file
from lorameta.export.ollama import whole_template
from lorameta.export.result import Exported

#: Seen in llama-cpp-python 0.3.36.
AMX = " (with AMX add --no-repack, or llama.cpp crashes)"


def llama_cpp(done: Exported, report: Mapping[str, Any], *, folder: Path | None = None) -> str:
    """Return lines that say how llama.cpp runs a GGUF adapter.

    Parameters
    ----------
    done : Exported
        Of :func:`lorameta.export.export_gguf`.
    report : mapping
        Of the adapter, for its prompt.
    folder : Path, optional
        Where the files will be; by default where they were written.
    """

    def place(path: str) -> str:
        return path if folder is None else str(folder / Path(path).name)

    adapter, model = place(str(done.path)), done.details["model"]
    alone = model == str(done.path)  # the head was all that the adapter changed
    base = place(model) if model else str(gguf_file(done.base) or "BASE.gguf")
    around = whole_template(report)
    prompt = "PROMPT" if around is None else around.render("AN INPUT")
    stop = ', stop=["\\n"]' if around is not None and around.one_line else ""
    lora = ("", "") if alone else (f" --lora {shlex.quote(adapter)}", f", lora_path={adapter!r}")
    return f"""Run it with llama.cpp{"" if alone else ", beside the GGUF of the base"}:
    llama-server -m {shlex.quote(base)}{lora[0]}
which takes whole prompts at http://127.0.0.1:8080/v1/completions{"" if alone else AMX};
or in Python (pip install llama-cpp-python):
    from llama_cpp import Llama
    model = Llama({base!r}{lora[1]})
    print(model({prompt!r}, max_tokens=64, temperature=0{stop})["choices"][0]["text"])"""
