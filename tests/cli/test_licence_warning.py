"""`lorameta generate` warns of licences that do not go together; nothing is held back for it."""

import json
import shutil

import pytest


@pytest.fixture
def licensed(tiny_bank, tmp_path):
    """The miniature bank with other licences."""

    def change(*licences):
        bank = tmp_path / "bank"
        shutil.copytree(tiny_bank, bank)
        content = json.loads((bank / "bank.json").read_text(encoding="utf-8"))
        for record, licence in zip(content["adapters"], licences, strict=True):
            record["licence"] = licence
        (bank / "bank.json").write_text(json.dumps(content), encoding="utf-8")
        return bank

    return change


def test_a_conflict_is_one_line_on_stderr_and_stands_in_the_card(lorameta, licensed, tiny_rows, tmp_path):
    bank = licensed("CC BY-SA 4.0", "CC BY-NC 4.0", "MIT", "MIT")
    result = lorameta("generate", tiny_rows, "-o", tmp_path / "out", "--bank", bank, "--json")
    assert result.code == 0
    sentence = "CC-BY-SA-4.0 does not go together with CC-BY-NC-4.0"
    (line,) = [line for line in result.err.splitlines() if "warning" in line]
    assert line.startswith(f"lorameta: warning: licences: {sentence}")
    assert f"- {sentence}" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_what_is_not_mixed_in_does_not_count(lorameta, licensed, tiny_rows, tmp_path):
    bank = licensed("CC BY-SA 4.0", "CC BY-NC 4.0", "CC BY-NC 4.0", "CC BY-NC 4.0")
    result = lorameta("generate", tiny_rows, "-o", tmp_path / "out", "--bank", bank, "--operator", "nearest")
    assert result.code == 0
    assert "warning" not in result.err


def test_harmless_and_missing_licences_bring_no_warning(lorameta, licensed, tiny_rows, tmp_path):
    bank = licensed("CC BY-SA 4.0", "MIT", "", "Apache-2.0")
    result = lorameta("generate", tiny_rows, "-o", tmp_path / "out", "--bank", bank)
    assert result.code == 0
    assert "warning" not in result.err
    assert "a source says no licence" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
