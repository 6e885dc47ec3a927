"""Every command and every Python block of the README runs, here on the miniature bank."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.conftest import task_rows

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (lorameta .+)$", README, flags=re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)


def copy_adapter(source, target, base):
    """A PEFT directory as the user of a base in `base` has it."""
    shutil.copytree(source, target)
    config = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))


@pytest.fixture
def clone(tmp_path, tiny_bank, monkeypatch):
    """A working directory like the root of a clone, whose embedded bank is the miniature one."""
    (tmp_path / "lorameta").symlink_to(ROOT / "lorameta")
    (tmp_path / "adapter_bank").mkdir()
    (tmp_path / "adapter_bank" / "tiny").symlink_to(tiny_bank)
    (tmp_path / "tasks").mkdir()
    for path in sorted((tiny_bank / "adapters").iterdir()):
        rows = "".join(json.dumps(row) + "\n" for row in task_rows(path.name))
        (tmp_path / "tasks" / f"{path.name}.jsonl").write_text(rows)
        copy_adapter(path, tmp_path / "adapters" / path.name, tmp_path / "adapter_bank" / "tiny" / "base")
    copy_adapter(path, tmp_path / "newcomer", tmp_path / "adapter_bank" / "tiny" / "base")
    (tmp_path / "newcomer.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lorameta.bank.locate.shipped_path", lambda _: tiny_bank)
    return tmp_path


def test_the_commands_run_one_after_the_other(clone, lorameta):
    assert {shlex.split(command)[1] for command in COMMANDS} == {"explain", "generate", "evaluate", "bank"}
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        words += ["--limit", "2", "--max-new-tokens", "2"] if words[0] == "evaluate" else []
        words += ["--keep-all", "--epochs", "1", "--jobs", "1"] if words[:2] == ["bank", "train"] else []
        result = lorameta(*words)
        assert result.code == 0, f"{command}\n{result.err}"


def test_the_python_blocks_run_one_after_the_other(clone, monkeypatch):
    assert len(BLOCKS) == 3
    from lorameta import evaluate

    def quick(examples, *arguments):
        return evaluate(examples[:2], *arguments, max_new_tokens=2)

    monkeypatch.setattr("lorameta.evaluate", quick, raising=False)
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), {})


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for document in ("README.md", "CONTRIBUTING.md", "adapter_bank/tiny/recipe/README.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"(?:^    |`)make (\w+)", text, flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{document}: make {target}"


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_verb_and_every_extra_is_described():
    for name in (
        "explain",
        "generate",
        "evaluate",
        "bank info",
        "bank list",
        "bank check",
        "bank train",
        "doctor",
        "export",
    ):
        assert f"| `{name}` |" in README
    extras = re.findall(
        r"^(\w+) = \[",
        (ROOT / "pyproject.toml")
        .read_text(encoding="utf-8")
        .split("[project.scripts]")[0]
        .split("[project.optional-dependencies]")[1],
        flags=re.MULTILINE,
    )
    assert extras
    for extra in extras:
        assert f"| `{extra}` |" in README
