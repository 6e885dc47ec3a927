"""bank.json is what others may have written: every violation is named, and no path or link leads out of the bank."""

from __future__ import annotations

import json

import pytest

from lorameta.bank import AdapterBank, check_directory, write_bank
from lorameta.errors import BankError
from tests.bank.parts import WEIGHTS, edit, parts_of, record_of, summaries_file


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 99\n", "git-LFS pointer"),
        (b"<html></html>", "HTML"),
        (b'{"format": 1,', "not JSON"),
        (b"not json", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"format": 4}', "has format 4; this lorameta reads 1, 2, 3"),
    ],
)
def test_damaged_manifests_are_named(root, data, named):
    (root / "bank.json").write_bytes(data)
    with pytest.raises(BankError, match=named):
        AdapterBank.open(root)
    assert named in check_directory(root).problems[0]


def test_all_violations_of_a_manifest_at_once(root):
    def change(content):
        del content["name"]
        content["base"]["sha256"]["config.json"] = "beef"
        content["summaries"]["bytes"] = -1
        content["left_out"].append({"id": "x"})
        one, two, three, four = content["adapters"]
        del one["sha256"]
        two["rank"] = "3"
        three["targets"] = "q_proj"
        four["rows"] = {"train": 1.5}
        four["alpha"] = True
        content["adapters"].append("nonsense")

    edit(root, change)
    with pytest.raises(BankError) as caught:
        AdapterBank.open(root)
    for named in (
        "name is missing; it must be a text",
        "base.sha256 is",
        "summaries.bytes is -1",
        "left_out[1].reason is missing",
        "adapters[alpha].sha256 is missing; it must be 64 hexadecimal digits",
        "adapters[beta].rank is '3'",
        "adapters[delta].targets is 'q_proj'; it must be a list of texts",
        "adapters[gamma].rows",
        "adapters[gamma].alpha is True",
        "adapters[4] must be an object",
    ):
        assert named in str(caught.value), named


@pytest.mark.parametrize(
    "path", ["../outside", "/etc", "adapters/../../outside", "C:/x", "..\\outside", "a\0b", "~/x", ""]
)
def test_paths_out_of_the_bank_are_refused_when_opening(root, path):
    (root.parent / "outside").mkdir()
    edit(root, lambda content: content["adapters"][0].update(path=path))
    with pytest.raises(BankError, match=r"adapters\[alpha\]\.path"):
        AdapterBank.open(root)
    edit(root, lambda content: content["adapters"][0].update(path="adapters/alpha"))
    for place in ("summaries.file", "base.model"):
        outer, inner = place.split(".")
        before = json.loads((root / "bank.json").read_text())[outer][inner]
        edit(root, lambda content: content[outer].update({inner: path}))  # noqa: B023
        with pytest.raises(BankError, match=place):
            AdapterBank.open(root)
        edit(root, lambda content: content[outer].update({inner: before}))  # noqa: B023
    edit(root, lambda content: content["base"]["sha256"].update({path: "0" * 64}))
    with pytest.raises(BankError, match=r"base\.sha256: the path"):
        AdapterBank.open(root)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "", ".hidden", "a\0", "x" * 129, "nul", "Con.txt", "a..b", "end.", "ä"]
)
def test_unsafe_ids_are_refused(root, name):
    edit(root, lambda content: content["adapters"][0].update(id=name))
    with pytest.raises(BankError, match=r"no safe file name|must be a text"):
        AdapterBank.open(root)


def test_ids_that_clash_are_refused(root, tmp_path):
    edit(root, lambda content: content["adapters"][0].update(id="BETA"))
    with pytest.raises(BankError, match="'beta' differs from 'BETA' in case only"):
        AdapterBank.open(root)
    edit(root, lambda content: (content["adapters"][0].update(id="aleph"), content["adapters"][2].update(id="BETA")))
    with pytest.raises(BankError, match="'BETA' differs from 'beta' in case only"):
        AdapterBank.open(root)
    edit(root, lambda content: content["adapters"][2].update(id="beta"))
    with pytest.raises(BankError, match="'beta' is there twice"):
        AdapterBank.open(root)
    parts = parts_of(tmp_path / "new")
    name = "alpha"
    parts["records"] = [record_of(name), record_of(name), *parts["records"][2:], record_of("../x")]
    with pytest.raises(BankError) as caught:
        write_bank(tmp_path / "new", **parts)
    assert "'alpha' is there twice" in str(caught.value)
    assert "'../x' is no safe file name" in str(caught.value)


@pytest.mark.parametrize("what", ["directory", "file", "base", "summaries"])
def test_links_out_of_the_bank_are_refused(root, tmp_path, what):
    place = {
        "directory": root / "adapters" / "alpha",
        "file": root / "adapters" / "alpha" / WEIGHTS,
        "base": root / "base",
        "summaries": summaries_file(root),
    }[what]
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    bank = AdapterBank.open(root)
    reach = {"base": lambda: bank.base_model, "summaries": lambda: bank.summaries}.get(what, lambda: bank["alpha"])
    with pytest.raises(BankError, match="a link that leads out of the bank"):
        reach()
    assert any("link that leads out" in problem for problem in bank.check().problems)
    (place).unlink()
    (tmp_path / "moved").rename(place)
    assert AdapterBank.open(root).check().ok
