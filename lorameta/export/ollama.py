"""Ollama: a GGUF adapter and the Modelfile that puts it on its base, with the prompt that the adapter was made for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorameta.adapter import Adapter
from lorameta.data import PromptTemplate
from lorameta.errors import UsageError
from lorameta.export.gguf import export_gguf
from lorameta.export.result import Exported
from lorameta.files.atomic import fresh_directory

#: The last one is written for an adapter that changes a head tied to the embedding: the base with a head of its own.
ADAPTER, MODELFILE, MODEL = "adapter.gguf", "Modelfile", "adapter-base.gguf"
#: Bases that Ollama's own library has, by their names on the Hub.
LIBRARY = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": "smollm2:135m",
    "HuggingFaceTB/SmolLM2-360M-Instruct": "smollm2:360m",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "smollm2:1.7b",
    "mistralai/Mistral-7B-Instruct-v0.2": "mistral:7b-instruct-v0.2",
}


def export_ollama(
    adapter: Adapter | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    dtype: str = "f32",
    from_model: str | None = None,
) -> Exported:
    """Write a directory for ``ollama create``: the adapter as GGUF, and a Modelfile.

    Parameters
    ----------
    adapter : Adapter or path of a PEFT directory
    output : path
        A directory: new, empty, or written here before.
    base, dtype
        See :func:`export_gguf`.
    from_model : str, optional
        The base as Ollama knows it: a name in its library, or the path of a GGUF file. By default the name in its
        library, where that is known, or the directory of the base.

    Returns
    -------
    Exported
        ``details``: those of :func:`export_gguf`, ``from`` and whether there is a ``template``.

    Raises
    ------
    UsageError
        Nobody says what Ollama calls the base, or as :func:`export_gguf`.
    """
    found = adapter if isinstance(adapter, Adapter) else Adapter.from_pretrained(adapter)
    source = _source(found, base, from_model)
    template = whole_template(found.report)
    target = Path(output).expanduser().resolve()
    with fresh_directory(target, {ADAPTER, MODELFILE, MODEL}) as fresh:
        given = source if source.endswith(".gguf") else None
        done = export_gguf(found, fresh / ADAPTER, base=base, dtype=dtype, base_gguf=given)
        model = done.details["model"]
        source = source if model is None else f"./{Path(model).name}"
        text = modelfile(source, template, adapter=source != f"./{ADAPTER}")
        (fresh / MODELFILE).write_text(text, encoding="utf-8", errors="replace")
    size = sum(path.stat().st_size for path in target.iterdir())
    model = None if model is None else str(target / Path(model).name)
    details = done.details | {"from": source, "template": template is not None, "model": model}
    return replace(done, path=target, format="ollama", bytes=size, details=details)


def whole_template(report: Mapping[str, Any]) -> PromptTemplate | None:
    """Return what is around a bare input, the bank's own template included; None if an adapter's report lacks it."""
    own = PromptTemplate.from_dict(report.get("prompt"))
    before, there, after = str(report.get("prompt_template") or "").partition("{input}")
    if own is None and not there:
        return None
    own = own or PromptTemplate()
    return PromptTemplate(before + own.prefix, own.suffix + after, own.one_line)


def modelfile(source: str, template: PromptTemplate | None, *, adapter: bool = True) -> str:
    """Return the text of a Modelfile.

    The template is what the rows of the adapter had in common, so that a bare input is enough; of an adapter that does
    not say it, the prompt alone. Either way the base's chat template does not apply: adapters here are made for bare
    prompts.
    """
    known = template or PromptTemplate()
    prompt = f"{_literal(known.prefix)}{{{{ .Prompt }}}}{_literal(known.suffix)}"
    lines = [f"FROM {source}", *([f"ADAPTER ./{ADAPTER}"] if adapter else [])]
    lines += [f'TEMPLATE """{prompt}"""', "PARAMETER temperature 0"]
    if known.one_line:  # Modelfiles know no escapes: the line break stands for itself
        lines.append('PARAMETER stop """\n"""')
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """Return the text as it stands in a template of Go between the quotes of a Modelfile."""
    text = text.replace("{{", '{{ "{{" }}')
    return text.replace('"""', '{{ "\\"\\"\\"" }}')


def _source(adapter: Adapter, base: str | os.PathLike[str] | None, given: str | None) -> str:
    if given is not None:
        if not given.strip() or "\n" in given:
            raise UsageError(f"--from {given!r} is no model; name one of Ollama's library or a GGUF file")
        path = Path(given).expanduser()
        if path.suffix == ".gguf" and not path.is_file():
            raise UsageError(f"--from {given}: there is no such file")
        return str(path.resolve()) if path.exists() else given
    for name in (adapter.base_model, str(base or "")):
        if name in LIBRARY:
            return LIBRARY[name]
    directory = Path(base if base is not None else adapter.base_model).expanduser()
    if (directory / "config.json").is_file():
        return str(directory.resolve())
    raise UsageError(
        f"what Ollama calls the base {adapter.base_model!r} is not known here; say it with --from: a name of its "
        "library (https://ollama.com/library) or a GGUF file"
    )
