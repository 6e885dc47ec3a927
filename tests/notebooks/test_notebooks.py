"""Every notebook runs from a clean kernel, and what is stored of it is fit to be read."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import pytest

for _name in ("nbclient", "nbformat", "ipykernel", "matplotlib", "peft"):
    pytest.importorskip(_name)

import nbformat  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("[0-9]*.ipynb"))
REAL = "01_first_adapter.ipynb"  # on the default bank, whose base model takes minutes
MACHINE = re.compile(rf"{re.escape(str(ROOT))}|(?<![\w.])/(?:home|root|tmp|work|Users|private|var)/|[A-Z]:\\Users")


def _load():
    spec = importlib.util.spec_from_file_location("notebooks_execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


execute = _load()


@cache
def stored(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / name, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell) -> list[tuple[str, ...]]:
    """What a cell puts out, without the content: streams by name, and the formats of what is shown."""
    return [(o.output_type, o.get("name", ""), *sorted(o.get("data", {}))) for o in cell.outputs]


def text_of(output) -> str:
    """All that an output says in words."""
    return output.get("text", "") + "".join(v for k, v in output.get("data", {}).items() if not k.startswith("image/"))


def test_the_readme_has_a_line_for_each():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert NAMES
    assert re.findall(r"\]\((\d\d_\w+\.ipynb)\)", readme) == NAMES


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == REAL)) for name in NAMES])
def test_it_runs_and_puts_out_what_is_stored(name):
    before = sorted(path.name for path in FOLDER.iterdir())
    fresh = execute.run(FOLDER / name)  # a cell that fails is an error
    cells, old = code_cells(fresh), code_cells(stored(name))
    assert [kinds(cell) for cell in cells] == [kinds(cell) for cell in old], "run notebooks/execute.py again"
    # The first thing said is what the notebook speaks of: how many adapters, how many rows.
    first = [next(text_of(o) for cell in c for o in cell.outputs if text_of(o)) for c in (cells, old)]
    assert first[0] == first[1], "the bank is another one than the notebook was run on; run notebooks/execute.py again"
    if name.startswith("05"):  # read from a file of results, so every number must be the stored one
        said = [[text_of(o) for cell in c for o in cell.outputs] for c in (cells, old)]
        assert said[0] == said[1], "the results are others than the notebook was run on; run notebooks/execute.py again"
    leftover = {path for path in FOLDER.iterdir() if path.name not in before and path.name != "__pycache__"}
    assert not leftover


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_are_stored_and_clean(name):
    notebook = stored(name)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(output.get("name", "stdout") == "stdout" for output in outputs), "something was written to stderr"
    assert notebook.metadata == execute.METADATA
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert (FOLDER / name).stat().st_size < 420 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_no_machine_is_in_it(name):
    notebook = stored(name)
    texts = [cell.source for cell in notebook.cells]
    texts += [text_of(output) for cell in code_cells(notebook) for output in cell.outputs]
    found = [match[0] for text in texts for match in MACHINE.finditer(text)]
    assert not found


@pytest.mark.parametrize("name", NAMES)
def test_no_result_is_typed_into_its_prose(name):
    """A number that was measured comes from a cell; formulas, code and arXiv's numbers may hold digits."""
    for cell in stored(name).cells:
        if cell.cell_type == "markdown":
            prose = cell.source
            for kept in (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$]+\$", r"`[^`]*`", r"arXiv[ :]\d{4}\.\d{5}"):
                prose = re.sub(kept, " ", prose, flags=re.DOTALL)
            assert not re.findall(r"\d+\.\d+|\d\s*(?:%|per ?cent)", prose), prose


def test_a_failing_cell_fails_the_run_and_check_writes_nothing(tmp_path, monkeypatch, capsys):
    def write(name: str, source: str) -> Path:
        cell = nbformat.v4.new_code_cell(source, id="only", metadata={"scrolled": True})
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}}), tmp_path / name)
        return tmp_path / name

    good, bad = write("1_good.ipynb", "print('two'); print(1 + 1)"), write("2_bad.ipynb", "1 / 0")
    before = [path.read_bytes() for path in (good, bad)]
    monkeypatch.setattr(execute, "HERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["execute.py", "--check"])
    assert execute.main() == 1
    assert [path.read_bytes() for path in (good, bad)] == before
    printed = capsys.readouterr()
    assert "2_bad.ipynb: failed" in printed.err
    assert "ZeroDivisionError" in printed.err

    monkeypatch.setattr("sys.argv", ["execute.py", "1_good.ipynb"])
    assert execute.main() == 0
    content = json.loads(good.read_text(encoding="utf-8"))
    assert content["metadata"] == execute.METADATA
    (cell,) = content["cells"]
    assert cell["metadata"] == {}
    assert "".join(cell["outputs"][0]["text"]) == "two\n2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1_good.ipynb", "2_bad.ipynb"]
