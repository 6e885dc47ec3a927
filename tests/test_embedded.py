"""The bank that comes with lorameta: whole, spread over families, and of use to a dataset it never saw."""

from __future__ import annotations

import re

import pytest

from lorameta import examples
from lorameta.bank import AdapterBank
from lorameta.data import load_examples
from lorameta.encoder import TokenEncoder

FAMILIES = {
    "acceptability", "analogy", "dialogue_act", "emotion", "entity", "intent", "list_selection", "morphology",
    "part_of_speech", "reasoning", "rewriting", "sentiment", "slot_extraction", "topic", "word_translation",
}  # fmt: skip


@pytest.fixture(scope="module")
def bank() -> AdapterBank:
    return AdapterBank.open("embedded")


def test_every_file_is_what_the_manifest_says(bank):
    report = bank.check()
    assert report.ok, report.problems


def test_it_is_spread_over_the_families_and_every_adapter_beats_the_base_on_validation(bank):
    assert len(bank) == 16
    assert {record.family for record in bank.records.values()} == FAMILIES
    for record in bank.records.values():
        base, adapter = record.scores["validation"]["base"], record.scores["validation"]["adapter"]
        assert adapter["loss"] < base["loss"], record.id
        assert record.licence, record.id
        assert record.source["commit"], record.id
    assert all(entry["reason"] for entry in bank.manifest.left_out)


def test_it_holds_nothing_but_what_its_manifest_and_its_recipe_name(bank):
    assert sorted(path.name for path in (bank.path / "adapters").iterdir()) == sorted(bank.ids)
    recipe = (bank.path / "recipe" / "tasks.py").read_text(encoding="utf-8")
    kept = re.search(r"^KEPT = \((.*?)^\)", recipe, re.M | re.S)
    assert sorted(kept[1].replace('"', "").split()) == sorted(bank.ids)
    assert set(re.findall(r"^\| (\w+) \| \w+ \| \d", (bank.path / "README.md").read_text("utf-8"), re.M)) == set(
        bank.ids
    )
    assert len(set(bank.manifest.recipe["tasks_not_kept"]) - set(bank.ids)) == 73


def test_it_shares_no_task_with_its_base(bank):
    assert not set(bank.manifest.recipe["base_tasks"]) & set(bank.ids)


def test_all_adapters_started_from_one_A(bank):
    """Trained adapters keep a part of the A they started from; independent ones would have cosines near 0 ± 0.02."""
    first, second = (bank[name].modules for name in (bank.ids[0], bank.ids[-1]))
    cosines = []
    for module, pair in first.items():
        A, other = pair.A.ravel(), second[module].A.ravel()
        cosines.append(A @ other / ((A @ A) * (other @ other)) ** 0.5)
    assert min(cosines) > 0.088  # four standard deviations of independent draws, 1/√(8·256) each
    assert sum(cosines) / len(cosines) > 0.3


def test_the_tokenizer_is_the_one_the_summaries_were_made_with(bank):
    assert TokenEncoder(bank.tokenizer_path).tokenizer_hash == bank.summaries.tokenizer_hash


def test_the_demo_dataset_gains_from_it(bank):
    pytest.importorskip("peft")
    from lorameta.evaluate import evaluate
    from lorameta.generate import generate_adapter

    train, test = (load_examples(examples.path(f"helpdesk_{part}.jsonl")) for part in ("train", "test"))
    operators = ("uniform", "normalized", "trial", "auto")
    made = {name: generate_adapter(train, bank="tiny", operator=name) for name in operators}
    scores = evaluate(test, bank.base_model, {"base": None, **made})
    assert scores["normalized"].exact_match > scores["base"].exact_match + 0.05
    assert scores["normalized"].loss < min(scores["base"].loss, scores["uniform"].loss) - 0.3
    for name, gain in (("trial", 0.05), ("auto", 0.3)):
        assert scores[name].exact_match >= scores["normalized"].exact_match
        assert scores[name].loss < scores["normalized"].loss - gain
