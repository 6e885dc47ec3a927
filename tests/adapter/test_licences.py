"""Licences are read as people write them, their duties are those of their texts, and conflicts are named."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from lorameta.adapter import licences
from lorameta.adapter.licences import LICENCES, conflicts, doubts, front_matter, of_source, parse
from lorameta.files.shipped import embedded_path

#: What the Hub takes as `license`, as its own error message listed it in May 2026 (huggingface_hub issue 4218).
HUB = set(
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 "
    "bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc "
    "cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 "
    "cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 "
    "cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 "
    "eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c "
    "ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa "
    "unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 "
    "llama3.2 llama3.3 llama4 grok2-community gemma unknown other".split()
)

SPELLINGS = {
    "CC BY 4.0": ["CC-BY-4.0"],
    "cc-by-sa-4.0": ["CC-BY-SA-4.0"],
    "CC BY-SA 3.0 (dictionary files)": ["CC-BY-SA-3.0"],
    "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International": ["CC-BY-NC-SA-4.0"],
    "CC BY-NC-ND 4.0": ["CC-BY-NC-ND-4.0"],
    "CC0": ["CC0-1.0"],
    "Apache License, Version 2.0": ["Apache-2.0"],
    "apache-2.0": ["Apache-2.0"],
    "The MIT License": ["MIT"],
    "BSD 3-Clause License": ["BSD-3-Clause"],
    "GPLv2": ["GPL-2.0"],
    "GPL-2.0-or-later": ["GPL"],
    "GNU General Public License v3.0": ["GPL-3.0"],
    "LGPL-2.1-only": ["LGPL-2.1"],
    "Mozilla Public License 2.0": ["MPL-2.0"],
    "Llama 3.1": ["llama3.1"],
    "MIT OR Apache-2.0": ["MIT"],
    "CC-BY-SA-4.0 OR MIT": ["MIT"],
    "MIT AND CC-BY-4.0": ["MIT", "CC-BY-4.0"],
    "CC BY 4.0 and WordNet licence": ["CC-BY-4.0", "WordNet"],
    "CC BY 3.0 (a), CC BY-SA 4.0 (b), CC BY 3.0 (c)": ["CC-BY-3.0", "CC-BY-SA-4.0"],
    "": ["unknown"],
    "other": ["unknown"],
    "MIT, other": ["MIT", "unknown"],
    "my own terms": ["my own terms"],
}


def ids(text):
    return [licence.id for licence in parse(text)]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS.items())
def test_a_licence_is_known_however_it_is_written(text, expected):
    assert ids(text) == expected


@pytest.mark.parametrize("licence", LICENCES.values(), ids=lambda licence: licence.id)
def test_every_licence_reads_back_and_the_hub_knows_its_name(licence):
    assert parse(licence.id) == (licence,)
    assert licence.hub == "" or (licence.hub in HUB and parse(licence.hub) == (licence,))


def test_the_hub_is_asked_for_its_own_name_wherever_it_has_one():
    assert {licence.id for licence in LICENCES.values() if not licence.hub and licence.id.lower() in HUB} == set()


def test_the_letters_of_creative_commons_are_its_duties():
    letters = {"BY": licences.CREDIT, "SA": licences.SHARE_ALIKE, "NC": licences.NON_COMMERCIAL,
               "ND": licences.NO_DERIVATIVES}  # fmt: skip
    found = [licence for licence in LICENCES.values() if licence.id.startswith("CC-BY")]
    assert len(found) == 36
    for licence in found:
        assert licence.duties == {letters[part] for part in licence.id.split("-") if part in letters}


def test_nothing_of_the_embedded_bank_is_strange_and_nothing_stands_against_another():
    manifest = json.loads((embedded_path() / "bank.json").read_bytes())
    found = [licence for record in manifest["adapters"] for licence in parse(record["licence"])]
    assert doubts(found) == []
    assert conflicts(found) == []


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["CC-BY-SA-4.0", "CC-BY-NC-4.0"], "commercial"),
        (["CC-BY-SA-4.0", "CC-BY-NC-SA-4.0"], "commercial"),
        (["GPL-3.0", "CC-BY-NC-4.0"], "commercial"),
        (["GPL-2.0", "Apache-2.0"], "patent"),
        (["GPL-2.0", "CC-BY-SA-4.0"], "each asks for itself"),
        (["CC-BY-SA-3.0", "GPL-3.0"], "each asks for itself"),
        (["ODbL-1.0", "CC-BY-SA-4.0"], "each asks for itself"),
        (["CC-BY-SA-4.0", "openrail"], "restrictions"),
        (["CC-BY-ND-4.0"], "must not be shared"),
        (["CC-BY-NC-ND-4.0", "MIT"], "must not be shared"),
    ],
)
def test_what_cannot_go_together_is_named(texts, expected):
    (sentence,) = conflicts(licence for text in texts for licence in parse(text))
    assert expected in sentence
    assert all(name in sentence for name in texts if name != "MIT")


@pytest.mark.parametrize(
    "texts",
    [
        ["MIT", "Apache-2.0", "CC-BY-4.0", "CC0-1.0", "BSD"],
        ["CC-BY-SA-3.0", "CC-BY-SA-4.0"],
        ["CC-BY-SA-4.0", "GPL-3.0", "Apache-2.0"],
        ["GPL-2.0-or-later", "Apache-2.0"],
        ["GPL-3.0", "AGPL-3.0"],
        ["CC-BY-NC-4.0", "CC-BY-4.0", "CC-BY-NC-SA-4.0"],
        ["CC-BY-SA-4.0", "MPL-2.0"],
        [],
    ],
)
def test_what_goes_together_is_left_alone(texts):
    assert conflicts(licence for text in texts for licence in parse(text)) == []


def test_order_and_repetition_change_nothing():
    found = [licence for text in ("CC-BY-SA-4.0", "GPL-2.0", "CC-BY-NC-4.0", "strange") for licence in parse(text)]
    for shuffled in itertools.permutations(found):
        assert conflicts([*shuffled, *shuffled]) == conflicts(found)
        assert front_matter([*shuffled, *shuffled]) == front_matter(found)


def test_a_source_without_a_licence_is_doubtful():
    assert "without one nothing is allowed" in doubts(parse(""))[0]
    assert "my own terms" in doubts(parse("my own terms"))[0]
    assert doubts(parse("MIT")) == []


def test_the_front_matter_names_one_licence_and_calls_many_other():
    assert front_matter(parse("MIT")) == {"license": "mit"}
    assert front_matter([*parse("CC BY 4.0"), *parse("cc-by-4.0")]) == {"license": "cc-by-4.0"}
    assert front_matter([*parse("MIT"), *parse("CC-BY-4.0")]) == {"license": "other", "license_name": "mixed-sources"}
    assert front_matter(parse("")) == {"license": "unknown"}
    assert front_matter(()) == {}
    wordnet = front_matter(parse("WordNet licence"))
    assert wordnet["license"] == "other"
    assert wordnet["license_link"].startswith("https://")
    odd = front_matter(parse("My: own #1 terms!"))
    assert odd["license"] == "other"
    assert re.fullmatch(r"[a-z0-9-.]+", odd["license_name"])


def test_an_adapter_may_have_another_licence_than_its_rows():
    found = of_source({"licence": "CC BY 4.0", "hub": {"repo": "a/b", "licence": "mit"}})
    assert [licence.id for licence in found] == ["CC-BY-4.0", "MIT"]
    assert [licence.id for licence in of_source({"licence": "", "hub": {"licence": "mit"}})] == ["MIT"]
    assert [licence.id for licence in of_source({})] == ["unknown"]


def test_every_duty_is_said_in_one_sentence():
    for licence in LICENCES.values():
        sentence = licence.obligation()
        assert sentence.startswith(f"{licence.id}: ")
        assert sentence.count("\n") == 0
        assert all(licences.DUTIES[duty] in sentence for duty in licence.duties)
    assert "not legal advice" in licences.NOTE
