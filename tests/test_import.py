"""`import lorameta` and `lorameta --help` stay cheap: nothing heavy is imported before it is needed."""

import subprocess
import sys

import pytest

import lorameta

HEAVY = (
    "torch", "transformers", "peft", "sentence_transformers", "datasets", "sklearn", "matplotlib", "pyarrow", "pandas",
    "scipy", "tokenizers", "huggingface_hub", "rich", "cma", "ot", "gradio", "uvicorn", "starlette", "gguf",
)  # fmt: skip


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def imported(code: str) -> set[str]:
    return set(fresh(f"import sys\n{code}\nprint()\nprint(*sys.modules)").splitlines()[-1].split())


def test_import_brings_nothing_but_the_package_itself():
    modules = imported("import lorameta")
    assert modules.isdisjoint((*HEAVY, "numpy", "typer", "lorameta.data", "lorameta.evaluate"))


def test_public_names_bring_nothing_heavy():
    modules = imported("from lorameta import *")
    assert "lorameta.generate" in modules
    assert modules.isdisjoint(HEAVY)


def test_the_list_of_verbs_imports_no_verb():
    modules = imported("from lorameta.cli import app\napp(['--help'], standalone_mode=False)")
    own = {name for name in modules if name.split(".")[0] == "lorameta"}
    assert own == {
        "lorameta",
        "lorameta.errors",
        *(f"lorameta.cli{name}" for name in ("", ".common", ".declare", ".verbs")),
    }
    assert modules.isdisjoint((*HEAVY, "numpy", "tqdm"))


def test_help_imports_neither_numpy_nor_anything_heavy():
    modules = imported(
        "from lorameta.cli import VERBS, app, bank\n"
        "assert 'generate' in VERBS and 'info' in bank.VERBS\n"
        "for words in ([], *([verb] for verb in VERBS), *(['bank', verb] for verb in bank.VERBS)):\n"
        "    app([*words, '--help'], standalone_mode=False)\n"
    )
    assert "typer" in modules
    assert modules.isdisjoint((*HEAVY, "numpy", "tqdm", "lorameta.generate"))


@pytest.mark.parametrize(("code", "limit"), [("import lorameta", 0.3), ("import lorameta.cli", 0.5)])
def test_import_time(code, limit):
    def seconds() -> float:
        # CPU time: the wall clock of a busy machine says nothing about the package.
        return float(fresh(f"import time\nstart = time.process_time()\n{code}\nprint(time.process_time() - start)"))

    assert min(seconds() for _ in range(3)) < limit


def test_every_public_name_resolves_and_has_a_docstring():
    for name in lorameta.__all__:
        value = getattr(lorameta, name)
        assert name == "__version__" or value.__doc__, name
    assert set(lorameta.__all__) <= set(dir(lorameta))


def test_evaluate_is_the_function_however_the_submodule_was_imported():
    code = "import lorameta.evaluate\nfrom lorameta.evaluate import Scorer\nfrom lorameta import evaluate"
    assert fresh(f"{code}\nprint(evaluate.__module__, callable(evaluate), Scorer.__name__)").split() == [
        "lorameta.evaluate",
        "True",
        "Scorer",
    ]


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lorameta.nothing  # noqa: B018
