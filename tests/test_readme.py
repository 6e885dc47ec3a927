"""Every command and every Python block of README and docs runs, document by document, here on the miniature bank.

Blocks are ```console (lines that begin with `$ `) and ```python. docs/lots-of-loras.md is run by tests/hub.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from benchmarks import tables
from tests.conftest import task_rows

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"lots-of-loras.md"}
#: First words of commands that this suite cannot run: they install, build the site, or are other people's programs.
NOT_RUN = {
    "pip",
    "make",
    "export",
    "git",
    "llama-server",
    "vllm",
    "curl",
    "python",
    ".venv/bin/pre-commit",
    "pre-commit",
}
#: What keeps a command on the miniature bank short.
QUICK = {
    "generate": ["--fast"],
    "evaluate": ["--limit", "2", "--max-new-tokens", "2"],
    "ask": ["--max-new-tokens", "2"],
    "bank train": ["--keep-all", "--epochs", "1", "--jobs", "1"],
    "doctor": ["--quick"],
    "finetune": ["--steps", "1"],
    "refine": ["--steps", "1"],
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    return [
        line[2:] for kind, text in blocks(page) if kind == "console" for line in text.splitlines() if line[:2] == "$ "
    ]


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
    (tmp_path / "BASE").symlink_to(tiny_bank / "base")
    (tmp_path / "tasks").mkdir()
    for path in sorted((tiny_bank / "adapters").iterdir()):
        rows = "".join(json.dumps(row) + "\n" for row in task_rows(path.name))
        (tmp_path / "tasks" / f"{path.name}.jsonl").write_text(rows)
        copy_adapter(path, tmp_path / "adapters" / path.name, tmp_path / "adapter_bank" / "tiny" / "base")
    copy_adapter(path, tmp_path / "newcomer", tmp_path / "adapter_bank" / "tiny" / "base")
    for name in ("newcomer", "rows", "test"):
        (tmp_path / f"{name}.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lorameta.bank.locate.shipped_path", lambda _: tiny_bank)
    return tmp_path


def quick(command: str) -> list[str]:
    """The words of a command behind `lorameta`, made short; a budget that is written is replaced."""
    words = shlex.split(command)[1:]
    extra = QUICK.get(" ".join(words[:2])) or QUICK.get(words[0], [])
    for budget, instead in (("--minutes", []), ("--refine-minutes", ["--refine-steps", "1"])):
        if budget in words:
            at = words.index(budget)
            words[at : at + 2] = instead
    return words + ([] if {"--dry-run", "--operator"} & set(words) else extra)


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in ELSEWHERE and commands(p)], ids=lambda p: p.name)
def test_the_commands_of_a_page_run_one_after_the_other(clone, lorameta, page):
    written = commands(page)
    assert {shlex.split(command)[0] for command in written} <= NOT_RUN | {"lorameta"}
    for command in (c for c in written if c.startswith("lorameta ")):
        if "--format gguf" in command:
            pytest.importorskip("gguf")
        result = lorameta(*quick(command))
        assert result.code == 0, f"{command}\n{result.err}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(kind == "python" for kind, _ in blocks(p))], ids=lambda p: p.name
)
def test_the_python_of_a_page_runs(clone, monkeypatch, page):
    from lorameta import evaluate

    def short(examples, *arguments):
        return evaluate(examples[:2], *arguments, max_new_tokens=2)

    monkeypatch.setattr("lorameta.evaluate", short, raising=False)
    names: dict = {}
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text, page.name, "exec"), names)


@pytest.mark.slow  # the default bank, not the miniature one
def test_the_first_example_prints_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    kinds = blocks(ROOT / "README.md")
    place = next(i for i, (kind, _) in enumerate(kinds) if kind == "python")
    (_, code), (kind, shown) = kinds[place : place + 2]
    assert kind == "text"
    (tmp_path / "lorameta").symlink_to(ROOT / "lorameta")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed, expected = capsys.readouterr().out.split(), shown.split()
    assert len(printed) == len(expected)
    for found, wanted in zip(printed, expected, strict=True):
        try:
            assert float(found) == pytest.approx(float(wanted), rel=0.02)
        except ValueError:
            assert found == wanted


def test_every_command_of_a_page_is_in_a_block_that_is_run():
    """An indented or unmarked block is neither console nor python, so nobody would notice that it is wrong."""
    for page in PAGES:
        outside = BLOCK.sub("", page.read_text(encoding="utf-8"))
        assert not re.findall(r"^(?: {4}|\t)(?:\$ )?lorameta .+$", outside, flags=re.MULTILINE), page.name
        for kind, text in blocks(page):
            assert kind in ("console", "python", "text", "diff"), f"{page.name}: a block of kind {kind!r}"
            assert kind == "console" or not re.search(r"^\$ ", text, flags=re.MULTILINE), page.name


def test_the_options_that_are_named_in_the_guide_exist(lorameta):
    """Options in running text; those in blocks are run."""
    guide = BLOCK.sub("", (ROOT / "docs" / "fine-tuning-on-a-cpu.md").read_text(encoding="utf-8"))
    known = {
        option
        for verb in ("finetune", "refine", "doctor")
        for option in re.findall(r"--[a-z-]+", lorameta(verb, "--help").out)
    }
    named = set(re.findall(r"`(--[a-z-]+)", guide))
    assert len(named) > 8
    assert named <= known


def test_the_tables_are_those_of_the_results():
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.PLACE.search(text)
        assert tables.filled(text, page.parent) == text, f"run python -m benchmarks.tables ({page.name})"
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    shown = {name for _, name, _ in tables.PLACE.findall(results)}
    assert shown == set(tables.TABLES) - {"study-short", "adapters"}  # in the READMEs


def test_a_table_follows_its_results(monkeypatch):
    real = tables.load
    page = "<!-- table latency -->\nPREVIOUS\n<!-- /table latency -->\nprose 0.42\n"

    def slower(name):
        found = real(name)
        for line in found["seconds"].values():
            line["median"] = 9.87
        return found

    monkeypatch.setattr(tables, "load", slower)
    filled = tables.filled(page)
    assert "9.87" in filled
    assert "PREVIOUS" not in filled
    assert filled.endswith("prose 0.42\n")


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set()
    for page in [*PAGES, ROOT / "adapter_bank" / "tiny" / "recipe" / "README.md"]:
        text = page.read_text(encoding="utf-8")
        named |= set(re.findall(r"(?:^    |^\$ |`)make (\w+)", text, flags=re.MULTILINE))
    assert {"demo", "test", "lint"} <= named
    assert {target for target in named if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        there = page.parent / target if target else page
        assert there.exists(), link
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, link


def test_every_verb_and_every_extra_is_described(lorameta):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^  ([a-z]+)  ", lorameta("--help").out, flags=re.MULTILINE)) - {"bank"}
    verbs |= {f"bank {verb}" for verb in re.findall(r"^  ([a-z]+)  ", lorameta("bank", "--help").out, re.MULTILINE)}
    assert {"generate", "bank check"} <= verbs
    table = "\n".join(line for line in readme.splitlines() if line.startswith("| `"))
    assert {verb for verb in verbs if f"`{verb}`" not in table} == set()
    tail = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    extras = re.findall(r"^(\w+) = \[", tail.split("[project.scripts]")[0], flags=re.MULTILINE)
    assert extras
    install = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert {extra for extra in extras if f"| `{extra}` |" not in install} == set()


def test_the_readme_can_be_read_in_one_go():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
