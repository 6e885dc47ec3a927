"""The directory for `ollama create`: its adapter is that of --format gguf, its template gives the rows' prompts."""

from __future__ import annotations

import re

import pytest

from lorameta import Adapter, UsageError
from lorameta.data import PromptTemplate
from lorameta.export.ollama import modelfile

pytest.importorskip("gguf")


def go(text: str, prompt: str) -> str:
    """What Go's template engine makes of the actions that are used: a string, and the prompt."""

    def action(match: re.Match[str]) -> str:
        body = match[1].strip()
        return prompt if body == ".Prompt" else re.sub(r"\\(.)", r"\1", body[1:-1])

    return re.sub(r'\{\{((?:\s*"(?:[^"\\]|\\.)*"\s*)|\s*\.Prompt\s*)\}\}', action, text)


def parsed(text: str) -> dict[str, list[str]]:
    """The instructions of a Modelfile, with the triple quotes taken off."""
    found: dict[str, list[str]] = {}
    for name, quoted, plain in re.findall(r'^([A-Z]+(?: [a-z]+)?) (?:"""(.*?)"""|([^\n]*))\n', text, re.S | re.M):
        found.setdefault(name, []).append(quoted or plain)
    return found


@pytest.mark.parametrize("prefix", ["Say it.\n\nInput: ", 'Fill {{ .Slot }} in """quotes""".\n\nInput: ', ""])
def test_the_template_gives_the_prompt_of_the_rows(prefix):
    template = PromptTemplate(prefix, "\n\nOutput:", True)
    found = parsed(modelfile("smollm2:135m", template))
    assert found["FROM"] == ["smollm2:135m"]
    assert go(found["TEMPLATE"][0], "dog") == template.render("dog")
    assert '"""' not in found["TEMPLATE"][0]
    assert found["PARAMETER stop"] == ["\n"]
    assert found["PARAMETER temperature"] == ["0"]


def test_without_a_template_the_prompt_goes_as_it_is():
    found = parsed(modelfile("mistral", None))
    assert found["TEMPLATE"] == ["{{ .Prompt }}"]
    assert "PARAMETER stop" not in found


def test_the_directory_and_what_is_refused(lorameta, tiny_bank, tmp_path):
    adapter, base = tiny_bank / "adapters" / "opposite", tiny_bank / "base"
    words = ["export", adapter, "--format", "ollama", "--base", base]
    result = lorameta(*words, "-o", tmp_path / "mine", "--from", "some/model:1b", "--json")
    assert result.code == 0, result.err
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["Modelfile", "adapter.gguf"]
    assert result.json["details"]["from"] == "some/model:1b"
    assert (tmp_path / "mine" / "Modelfile").read_text().startswith("FROM some/model:1b\nADAPTER ./adapter.gguf\n")
    lorameta("export", adapter, "--format", "gguf", "--base", base, "-o", tmp_path / "one.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "mine" / "adapter.gguf").read_bytes()
    text = lorameta(*words, "-o", tmp_path / "second")
    assert f"from {base.resolve()}" in text.out
    assert "ollama create" in text.out
    assert lorameta(*words, "-o", tmp_path / "third", "--from", tmp_path / "missing.gguf").code == 2
    assert lorameta("export", adapter, "--format", "gguf", "-o", tmp_path / "x.gguf", "--from", "a").code == 2
    from lorameta.export import export

    far = Adapter(Adapter.from_pretrained(adapter).modules, "somebody/unknown-7b")
    with pytest.raises(UsageError, match="--from"):
        export(far, tmp_path / "fourth", format="ollama")
