"""Pipes, devices, directories and links to themselves in the place of files: nothing waits, and a check goes on."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank, check_directory
from lorameta.bank_builder.members import add
from lorameta.errors import BankError, LorametaError
from tests.attacks.conftest import needs_links, tamper

pytestmark = needs_links
ADAPTER = "adapters/opposite"
FILES = [f"{ADAPTER}/adapter_config.json", f"{ADAPTER}/adapter_model.safetensors", "summaries.safetensors"]
FILES += ["base/tokenizer.json", "leave_one_out.json", ".lorameta/retired.json"]


@pytest.mark.parametrize("kind", ["pipe", "directory", "link to itself", "link to /dev/zero"])
@pytest.mark.parametrize("name", FILES)
def test_a_check_lists_it_and_goes_on(bank, name, kind):
    path = bank / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "link to itself" else "/dev/zero")
    start = time.monotonic()
    report = AdapterBank.open(bank).check()
    assert report.ok == (name in ("leave_one_out.json", ".lorameta/retired.json"))
    assert report.adapters == 4
    if name.startswith("adapters"):
        assert all(problem.startswith("opposite: ") for problem in report.problems)
        with pytest.raises(BankError):
            Adapter.from_pretrained(path.parent)
        with pytest.raises(LorametaError):
            add(
                AdapterBank.open(bank),
                path.parent,
                summary=bank / "summaries.safetensors",
                id="number_word",
                replacing=True,
            )
    assert time.monotonic() - start < 60


def test_a_manifest_that_is_a_pipe(bank):
    (bank / "bank.json").unlink()
    os.mkfifo(bank / "bank.json")
    with pytest.raises(BankError, match="no regular file"):
        AdapterBank.open(bank)
    assert not check_directory(bank).ok


@pytest.mark.parametrize("place", ["adapters", "adapters/opposite", "base", "."])
def test_directories_that_link_to_themselves(bank, place, lorameta):
    if place == ".":
        shutil.rmtree(bank)
        bank.symlink_to(bank)
        with pytest.raises(BankError):
            AdapterBank.open(bank)
    else:
        shutil.rmtree(bank / place)
        (bank / place).symlink_to(bank / place)
        assert AdapterBank.open(bank).check().problems
    done = lorameta("bank", "check", bank)
    assert done.code == 2
    assert "fault of lorameta" not in done.err


def test_names_that_no_system_takes(bank, lorameta, tiny_rows):
    for words in (["bank", "list", "x" * 300], ["bank", "check", "a/" * 3000], ["bank", "list", "~nouser/x"],
                  ["generate", tiny_rows, "--bank", bank, "-o", bank / ("y" * 300)],
                  ["generate", tiny_rows, "--bank", bank, "-o", "~nouser/x"],
                  ["explain", "~nouser/x.jsonl", "--bank", bank]):  # fmt: skip
        done = lorameta(*words)
        assert done.code in (1, 2), words
        assert "fault of lorameta" not in done.err, done.err
        assert len(done.err) < 8000

    tamper(bank, lambda content: content["adapters"][0].update(path="adapters/" + "z" * 199))
    assert any("is missing" in problem for problem in AdapterBank.open(bank).check().problems)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that bind")
def test_an_adapter_without_permission_is_listed(bank):
    place = bank / "adapters" / "opposite"
    place.chmod(0)
    try:
        report = AdapterBank.open(bank).check()
        assert [problem for problem in report.problems if not problem.startswith("opposite: ")] == []
        assert report.problems
    finally:
        place.chmod(0o700)
