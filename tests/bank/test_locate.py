"""Where a bank is: a directory, in the package, beside a clone, or in a distribution of its own."""

from __future__ import annotations

import pytest

from lorameta.bank import AdapterBank, write_bank
from lorameta.errors import BankError
from lorameta.files import shipped
from tests.bank.parts import parts_of


def test_where_a_bank_is_missing(tmp_path, monkeypatch):
    with pytest.raises(BankError, match=r"no bank '.*nowhere'.*smollm2, tiny"):
        AdapterBank.open(tmp_path / "nowhere")
    with pytest.raises(BankError, match=r"is not a bank: .*bank\.json"):
        AdapterBank.open(tmp_path)
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "lorameta" / "bank" / "embedded.py"))
    with pytest.raises(BankError, match="no bank 'tiny'"):
        AdapterBank.open("tiny")


@pytest.mark.parametrize("place", ["lorameta/adapter_bank/tiny", "adapter_bank/tiny"])
def test_the_embedded_bank_is_inside_a_wheel_or_beside_a_clone(tmp_path, monkeypatch, place):
    write_bank(tmp_path / place, **parts_of(tmp_path / place))
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "lorameta" / "bank" / "embedded.py"))
    assert AdapterBank.open("tiny").path == AdapterBank.open("embedded").path == (tmp_path / place).resolve()
    assert shipped.embedded_path() == tmp_path / place


def test_a_bank_in_a_distribution_is_found_and_never_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "lorameta" / "files" / "shipped.py"))
    monkeypatch.setattr(shipped, "DISTRIBUTED", {"smollm2": ("some_bank_of_tests", "lorameta-bank-smollm2")})
    with pytest.raises(BankError, match=r"pip install lorameta-bank-smollm2\n.*\n.*pip install ./adapter_bank/smollm2"):
        AdapterBank.open("smollm2")
    installed = tmp_path / "site" / "some_bank_of_tests"
    write_bank(installed, **parts_of(installed))
    (installed / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert AdapterBank.open("smollm2").path == installed.resolve()
    beside = tmp_path / "adapter_bank" / "smollm2"
    write_bank(beside, **parts_of(beside))
    assert AdapterBank.open("smollm2").path == beside.resolve()  # a clone's own comes first
