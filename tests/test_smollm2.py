"""The default bank: whole, of every task, each adapter better than the base, all on one A."""

from __future__ import annotations

import pytest

from lorameta.bank import AdapterBank
from lorameta.encoder import TokenEncoder
from lorameta.operator import OPERATORS


@pytest.fixture(scope="module")
def bank() -> AdapterBank:
    return AdapterBank.open()


def test_it_is_whole(bank):
    report = bank.check()
    assert report.ok, report.problems
    assert report.warnings == []
    assert report.notes == ["121 adapters share an initial A (mean cosine 1.00)"]


def test_every_adapter_beats_the_base_and_says_where_its_rows_are_from(bank):
    assert (bank.name, len(bank), bank.manifest.left_out) == ("smollm2", 121, ())
    assert bank.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert len({record.family for record in bank.records.values()}) == 24
    for record in bank.records.values():
        base, adapter = record.scores["validation"]["base"], record.scores["validation"]["adapter"]
        assert adapter["loss"] < base["loss"], record.id
        assert record.licence, record.id
        assert record.source["commit"], record.id


def test_all_adapters_have_the_very_same_a(bank):
    first, last = bank[bank.ids[0]].modules, bank[bank.ids[-1]].modules
    assert all(pair.A is last[module].A for module, pair in first.items())
    assert {pair.rank for pair in first.values()} == {4}


def test_the_adapter_of_all_tasks_has_that_a_too(bank):
    from lorameta.operator.multi_task_file import load

    first = bank[bank.ids[0]].modules
    found = load(bank).modules
    assert set(found) == set(first)
    assert all((pair.A == first[module].A).all() for module, pair in found.items())


def test_the_tokenizer_is_the_one_the_summaries_were_made_with(bank):
    assert TokenEncoder(bank.tokenizer_path).tokenizer_hash == bank.summaries.tokenizer_hash
    assert bank.summaries.has("tokens")
    assert bank.summaries.has("sentence")


def test_the_fitted_operators_are_those_of_this_bank(bank):
    from lorameta.bank.fitted import fitted

    found = [one for one in fitted(bank) if "neural" in OPERATORS and one.file.startswith("operators/")]
    assert len(found) == 11  # neural for each distance, transfer, and multi_task
    assert all(one.valid for one in found)
