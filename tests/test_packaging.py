"""What is shipped: the dependencies are pinned, the wheel carries the bank, no path or host of a machine is in it."""

import re
import zlib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings its ancestor
    import tomli as tomllib

from lorameta.files.shipped import DISTRIBUTED

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def requirements() -> list[Requirement]:
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    found = [Requirement(line) for line in lines]
    return [requirement for requirement in found if requirement.name != "lorameta"]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins)
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement):
    pins = constraints()
    assert canonicalize_name(requirement.name) in pins
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_ranges_have_a_floor_and_no_ceiling():
    for requirement in requirements():
        assert {specifier.operator for specifier in requirement.specifier} == {">="}, str(requirement)


def test_all_is_every_extra_for_users():
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == set(EXTRAS) - {"all", "dev", "docs"}


def test_the_error_of_a_missing_extra_names_one_that_exists():
    named = set()
    for path in (ROOT / "lorameta").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= {call[1] for call in re.finditer(r'MissingExtraError\([^()]*(?:\([^()]*\))?[^()]*?,\s*"(\w+)",', text)}
    assert named
    assert named <= set(EXTRAS)


@pytest.fixture(scope="module")
def wheel_files() -> set[str]:
    from hatchling.builders.wheel import WheelBuilder

    builder = WheelBuilder(str(ROOT))
    return {file.distribution_path for file in builder.recurse_selected_project_files()}


def test_the_wheel_carries_the_package_its_data_and_the_bank(wheel_files):
    expected = {"py.typed", "__main__.py", "cli/generate.py", "examples/helpdesk_train.jsonl"}
    expected |= {f"adapter_bank/tiny/{name}" for name in ("base/tokenizer.json", "recipe/README.md")}
    assert {f"lorameta/{name}" for name in expected} <= wheel_files
    assert {path.split("/")[0] for path in wheel_files} == {"lorameta"}


def test_the_wheel_carries_every_file_of_the_bank_and_no_cache(wheel_files):
    ignored = re.compile(r"__pycache__|\.pyc$|/\.")
    bank = {
        f"lorameta/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "adapter_bank" / "tiny").rglob("*")
        if path.is_file()
    }
    assert {path for path in bank if not ignored.search(path)} == {
        path for path in wheel_files if "/adapter_bank/" in path
    }
    assert not [path for path in wheel_files if ignored.search(path)]


def test_the_wheel_is_below_20_mb():
    """Deflated as a wheel is; the adapters and the base hardly shrink."""
    from hatchling.builders.wheel import WheelBuilder

    sizes = [
        len(zlib.compress(Path(file.path).read_bytes()))
        for file in WheelBuilder(str(ROOT)).recurse_selected_project_files()
    ]
    assert sum(sizes) < 20e6


def test_the_bank_smollm2_is_a_distribution_of_its_own():
    from hatchling.builders.wheel import WheelBuilder

    root = ROOT / "adapter_bank" / "smollm2"
    files = {file.distribution_path: Path(file.path) for file in
             WheelBuilder(str(root)).recurse_selected_project_files()}  # fmt: skip
    assert {path.split("/")[0] for path in files} == {"lorameta_bank_smollm2"}
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    ours = {name for name in there if not re.search(r"__pycache__|^pyproject\.toml$|(^|/)\.|^dist/|^build/", name)}
    assert {path.partition("/")[2] for path in files} == ours
    assert {"bank.json", "tokenizer/tokenizer.json", "__init__.py"} <= ours
    assert sum(path.stat().st_size for path in files.values()) < 160e6
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTED["smollm2"][1]
    assert "dependencies" not in project


def test_no_machine_and_no_private_host_is_named():
    names = ["pyproject.toml", "constraints.txt", "Makefile", ".ci/run", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
    foreign = re.compile(r"file://|(?<![\w.])/(?:home|opt|root|tmp|usr/local|work)/|localhost|index-url\s*=")
    for name in names:
        assert not foreign.search((ROOT / name).read_text(encoding="utf-8")), name


def test_the_changelog_has_the_version():
    import lorameta

    assert f"## [{lorameta.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
