"""Code beside a model or a dataset.

transformers asks whether to run it, and a `y` from a pipe answered; `datasets` before 4.0 asked for the script of a
dataset. So every load says no, and nothing in the package reads a form that can run code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "lorameta"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
#: What can run code, or write anywhere, by reading what somebody else wrote.
FORBIDDEN = re.compile(
    r"(builtins\.)?(eval|exec)|(torch|np|numpy|pickle|joblib|marshal|dill|shelve)\.(load|loads|open)|yaml\.\w+"
    r"|(tarfile|zipfile)\.\w+|shutil\.unpack_archive"
)
#: Loads of models, which take code along if they are told so.
LOADS = re.compile(
    r"(transformers\.\w+|AutoConfig|AutoTokenizer|AutoModel\w*|getattr\(transformers, .*\))\.from_pretrained"
)


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if FORBIDDEN.fullmatch(called):
            yield called
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if said.get("trust_remote_code", "False") != "False":
            yield f"{called} trusts"
        if (LOADS.fullmatch(called) or called.endswith("SentenceTransformer")) and "trust_remote_code" not in said:
            yield f"{called} does not say no"


@pytest.mark.parametrize("file", FILES)
def test_no_code_is_run(file):
    assert list(faults((PACKAGE / file).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "pickle.loads(data)",
        "zipfile.ZipFile(path)",
        "transformers.AutoConfig.from_pretrained(name)",
        "AutoModelForCausalLM.from_pretrained(name, trust_remote_code=trusted)",
        "getattr(transformers, kind).from_pretrained(name, revision=None)",
        "SentenceTransformer(path)",
    ],
)
def test_a_fault_would_be_found(source):
    assert list(faults(source))


def test_datasets_is_too_new_for_scripts():
    floors = re.findall(r'"datasets>=(\d+)', (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert floors
    assert all(int(floor) >= 4 for floor in floors)
