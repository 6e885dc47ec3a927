"""Banks: written from parts, opened cheaply, read with every file verified, and safe against hostile manifests."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.bank import (
    AdapterBank,
    AdapterRecord,
    BaseRecord,
    CheckReport,
    check_directory,
    write_bank,
)
from lorameta.encoder.summary import DatasetSummary, Summaries
from lorameta.errors import BankError, LorametaError, UsageError
from lorameta.files import shipped
from tests.peft_helpers import Q, dense, random_factors, write_peft

IDS = ("beta", "alpha", "delta", "gamma")
WEIGHTS = "adapter_model.safetensors"
TOKENIZER = '{"model": {"type": "WordLevel", "vocab": {"a": 0}}}'
#: Of the above: hashed is what decides how it cuts a text, in canonical form.
HASH = hashlib.sha256(
    b'{"added_tokens":null,"merges":[],"model":{"type":"WordLevel"},"normalizer":null,"pre_tokenizer":null,'
    b'"vocab":{"a":0}}'
).hexdigest()


def summaries_of(ids, tokenizer_hash: str | None = HASH) -> Summaries:
    counts = [np.array([i + 1, 2, 0, 7], dtype=np.int64) for i in range(len(ids))]
    parts = [DatasetSummary(10 + i, count) for i, count in enumerate(counts)]
    return Summaries.from_list(tuple(ids), parts, tokenizer_hash=tokenizer_hash)


def record_of(name: str, **fields) -> AdapterRecord:
    facts = dict(
        task=f"task {name}", family="f", description="d", source={"repo": "o/r", "commit": "c"}, licence="MIT",
        rows={"train": 8, "validation": 1, "test": 1}, training={"lr": 1e-3}, scores={"base": {"exact_match": 0.1}},
    )  # fmt: skip
    return AdapterRecord(name, **{**facts, **fields})


def parts_of(root: Path, ids=IDS, **config) -> dict:
    """Adapters and a base below `root`, and what write_bank takes."""
    (root / "base").mkdir(parents=True)
    (root / "base" / "config.json").write_text("{}")
    (root / "base" / "tokenizer.json").write_text(TOKENIZER)
    for seed, name in enumerate(ids):
        keywords = {"base_model_name_or_path": "our-base", **config}
        write_peft(root / "adapters" / name, random_factors(seed), alpha=6.0, **keywords)
    return dict(
        name="test bank",
        base=BaseRecord("base", name="our-base"),
        summaries=summaries_of(ids),
        records=[record_of(name) for name in ids],
        left_out=[{"id": "omega", "reason": "no better than the base"}],
        recipe={"seed": 1},
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("built") / "bank"
    write_bank(root, **parts_of(root))
    return root


@pytest.fixture
def root(built, tmp_path) -> Path:
    """A bank of four adapters that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "bank"))


def edit(root: Path, change) -> None:
    """Change the JSON of bank.json in place."""
    content = json.loads((root / "bank.json").read_text())
    change(content)
    (root / "bank.json").write_text(json.dumps(content))


def summaries_file(root: Path) -> Path:
    """The one file of summaries, which is named after its content."""
    (path,) = root.glob("summaries-*.safetensors")
    return path


def rehash(root: Path, name: str) -> None:
    """Make bank.json agree with the files of an adapter, as one who changed both would."""

    def change(content):
        (record,) = [record for record in content["adapters"] if record["id"] == name]
        directory = root / record["path"]
        data = (directory / WEIGHTS).read_bytes()
        record["sha256"], record["bytes"] = hashlib.sha256(data).hexdigest(), len(data)
        record["config_sha256"] = hashlib.sha256((directory / "adapter_config.json").read_bytes()).hexdigest()

    edit(root, change)


# Writing and opening


def test_write_and_open(root):
    bank = AdapterBank.open(root)
    assert bank.ids == tuple(sorted(IDS)) == tuple(bank)
    assert (len(bank), bank.name, "alpha" in bank, "omega" in bank) == (4, "test bank", True, False)
    assert bank.base_model == str((root / "base").resolve())
    assert bank.base_revision is None
    assert bank.tokenizer_path == (root / "base").resolve()
    assert bank.manifest.left_out == ({"id": "omega", "reason": "no better than the base"},)
    record = bank.records["delta"]
    assert (record.rank, record.alpha, record.rslora) == (3, 6.0, False)
    assert record.targets == ("down_proj", "k_proj", "q_proj")
    data = (root / "adapters" / "delta" / WEIGHTS).read_bytes()
    assert (record.sha256, record.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert record.provenance() == {
        "task": "task delta", "family": "f", "licence": "MIT", "source": {"repo": "o/r", "commit": "c"},
        "sha256": record.sha256,
    }  # fmt: skip
    base = bank.manifest.base
    assert base.sha256["config.json"] == hashlib.sha256(b"{}").hexdigest()
    assert base.tokenizer_hash == bank.manifest.encoders["tokens"]["tokenizer_hash"] == HASH
    assert json.loads((root / "bank.json").read_text())["format"] == 1
    assert "4 adapters" in repr(bank)


def test_adapters_are_those_that_were_put_in(root):
    bank = AdapterBank.open(str(root / "bank.json"))
    for seed, name in enumerate(IDS):
        adapter = bank[name]
        assert (adapter.name, adapter.base_model, adapter.weights) == (name, bank.base_model, {})
        for module, expected in dense(random_factors(seed)).items():
            np.testing.assert_allclose(adapter.modules[module].delta(), expected, rtol=1e-5, atol=1e-6)


def test_summaries_follow_the_ids(root):
    bank = AdapterBank.open(root)
    assert bank.summaries.ids == bank.ids
    for i, name in enumerate(IDS):
        assert bank.summaries[name].rows == 10 + i
    view = bank.select(["gamma", "beta"])
    assert view.summaries.ids == view.ids == ("gamma", "beta")
    np.testing.assert_array_equal(view.summaries.token_counts.toarray()[:, 0], [4, 1])
    assert bank.summaries is bank.summaries
    edit(root, lambda content: content["adapters"].reverse())
    turned = AdapterBank.open(root)
    assert turned.summaries.ids == turned.ids == bank.ids[::-1]


def test_same_parts_same_bytes(tmp_path):
    one, two = parts_of(tmp_path / "one"), parts_of(tmp_path / "two", ids=IDS)
    two["records"] = two["records"][::-1]
    two["summaries"] = two["summaries"].select(IDS[::-1])
    write_bank(tmp_path / "one", **one)
    for _ in range(2):  # again, over itself
        write_bank(tmp_path / "two", **two)
    for file in ("bank.json", summaries_file(tmp_path / "one").name):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_views(root):
    bank = AdapterBank.open(root)
    assert bank.without("beta").ids == ("alpha", "delta", "gamma")
    assert bank.without(["beta", "alpha"]).without("gamma").ids == ("delta",)
    assert "beta" not in bank.without("beta")
    assert bank.without(bank.ids).ids == ()
    view = bank.without("beta")
    assert view.summaries.ids == view.ids
    assert view["alpha"].modules.keys() == bank["alpha"].modules.keys()
    assert view.check().adapters == 3
    for call in (view.__getitem__, view.without, lambda name: view.select([name])):
        with pytest.raises(UsageError, match="no adapter 'beta'"):
            call("beta")
    with pytest.raises(UsageError, match="did you mean alpha"):
        bank["alhpa"]
    with pytest.raises(UsageError, match="alpha is selected twice"):
        bank.select(["alpha", "alpha"])


def test_a_bank_of_a_base_on_the_hub(tmp_path):
    parts = parts_of(tmp_path, base_model_name_or_path="Owner/Base-7B", revision="main")
    parts["base"] = BaseRecord("owner/base-7b", revision="a1b2")
    shutil.rmtree(tmp_path / "base")
    write_bank(tmp_path, **parts)
    bank = AdapterBank.open(tmp_path)
    assert (bank.base_model, bank.base_revision, bank.tokenizer_path) == ("owner/base-7b", "a1b2", None)
    assert (bank["alpha"].base_model, bank["alpha"].base_revision) == ("owner/base-7b", "a1b2")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(TOKENIZER)
    assert bank.tokenizer_path == tmp_path.resolve() / "tokenizer"
    assert bank.check().ok


def test_a_bank_written_by_hand_opens_and_is_sound(tiny_bank):
    """The miniature bank of the tests was written without any of the library's writers."""
    bank = AdapterBank.open(tiny_bank)
    assert bank.check() == CheckReport([], [], 4, bank.check().bytes)
    assert all(isinstance(bank[name], Adapter) for name in bank)


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


# Hostile banks


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


# Damage


def test_an_adapter_that_changed_is_not_used(root):
    path = root / "adapters" / "alpha" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BankError, match=r"'alpha' of the bank test bank(.|\n)*sha256 is '.*by the files"):
        AdapterBank.open(root)["alpha"]
    config = root / "adapters" / "beta" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 6.0', '"lora_alpha": 7.0'))
    with pytest.raises(BankError) as caught:
        AdapterBank.open(root)["beta"]
    assert "alpha is 7.0 by the files and 6.0 by bank.json" in str(caught.value)
    assert "config_sha256" in str(caught.value)
    assert len(AdapterBank.open(root)["gamma"].modules) == 3


@pytest.mark.parametrize("said", ["our-base", "base", "../../base", "", None, "mistralai/Mistral-7B", "/some/base"])
def test_adapters_of_another_base_are_refused(tmp_path, said):
    parts = parts_of(tmp_path, base_model_name_or_path=said)
    if said not in ("mistralai/Mistral-7B", "/some/base"):
        write_bank(tmp_path, **parts)
        assert AdapterBank.open(tmp_path)["alpha"].base_model == str(tmp_path.resolve() / "base")
    else:
        with pytest.raises(BankError) as caught:
            write_bank(tmp_path, **parts)
        assert str(caught.value).count("says that it was trained on") == 4
        assert not (tmp_path / "bank.json").exists()


def test_another_revision_is_refused(tmp_path):
    parts = parts_of(tmp_path, base_model_name_or_path="o/b", revision="old")
    parts["base"] = BaseRecord("o/b", revision="new")
    with pytest.raises(BankError, match="revision old, the bank is of new"):
        write_bank(tmp_path, **parts)


def test_check_finds_everything_at_once(root):
    bank = AdapterBank.open(root)
    sound = bank.check()
    assert sound.ok
    assert sound.problems == sound.warnings == []
    assert (sound.adapters, sound.as_dict()["ok"]) == (4, True)
    assert sound.bytes > sum(record.bytes for record in bank.records.values())

    (root / "adapters" / "alpha" / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 4242\n")
    (root / "adapters" / "beta" / WEIGHTS).write_bytes((root / "adapters" / "beta" / WEIGHTS).read_bytes()[:-7])
    shutil.rmtree(root / "adapters" / "delta")
    nan = random_factors(3)
    nan[Q][0][0, 0] = np.nan
    write_peft(root / "adapters" / "gamma", nan, base_model_name_or_path="our-base")
    (root / "base" / "config.json").write_text("{ }")
    (root / "base" / "tokenizer.json").unlink()
    summaries_file(root).write_bytes(b"<html>")
    report = AdapterBank.open(root).check()
    text = "\n".join(report.problems)
    assert not report.ok
    for named in (
        f"alpha: {WEIGHTS} is a git-LFS pointer",
        "4242",
        f"beta: {WEIGHTS} is truncated",
        f"delta: {WEIGHTS} is missing",
        "delta: adapter_config.json is missing",
        "gamma: ",
        "NaN",
        "base/config.json is not the file",
        "base/tokenizer.json is missing",
        "summaries: ",
    ):
        assert named in text, named


def test_check_warns_of_what_is_odd(root):
    zero = {module: (A, 0 * B) for module, (A, B) in random_factors(0).items()}
    huge = {module: (A, 1000 * B) for module, (A, B) in random_factors(1).items()}
    part = {Q: random_factors(2)[Q]}
    changed = {
        "alpha": (huge, {}),
        "beta": (zero, {}),
        "delta": (part, {"target_modules": ["down_proj", "k_proj", "q_proj"]}),
    }
    for name, (factors, config) in changed.items():
        write_peft(root / "adapters" / name, factors, base_model_name_or_path="our-base", **config)
        rehash(root, name)
    edit(root, lambda content: content["adapters"][2].update(targets=["q_proj"]))
    write_peft(root / "adapters" / "stray", zero)
    report = AdapterBank.open(root).check()
    assert report.problems == []
    text = "\n".join(report.warnings)
    for named in ("beta: its update is zero", "alpha: its update has norm", "delta: it lacks 2 of the 3 modules",
                  "adapters/stray: bank.json does not name it"):  # fmt: skip
        assert named in text, named
    assert len(report.warnings) == 4


def test_check_finds_shapes_and_doubles(root):
    shutil.rmtree(root / "adapters" / "alpha")
    shutil.copytree(root / "adapters" / "beta", root / "adapters" / "alpha")
    write_peft(root / "adapters" / "gamma", random_factors(0, shapes={Q: (12, 11)}), base_model_name_or_path="our-base")
    for name in ("alpha", "gamma"):
        rehash(root, name)
    edit(root, lambda content: content["adapters"][3].update(targets=["q_proj"]))
    report = AdapterBank.open(root).check()
    assert report.problems == [f"gamma: {Q} is (12, 11), that of the others (12, 10)"]
    assert "alpha, beta: they are the same file" in report.warnings


def test_summaries_of_another_bank_are_refused(root):
    path = summaries_file(root)
    other = summaries_of(["alpha", "beta", "delta", "epsilon"])
    other.save(path)
    with pytest.raises(BankError, match="SHA-256"):
        _ = AdapterBank.open(root).summaries
    data = path.read_bytes()
    edit(root, lambda content: content["summaries"].update(sha256=hashlib.sha256(data).hexdigest()))
    with pytest.raises(BankError, match=r"holds other adapters than bank\.json"):
        _ = AdapterBank.open(root).summaries
    edit(root, lambda content: content["base"].update(tokenizer_hash="another"))
    summaries_of(IDS).save(path)
    data = path.read_bytes()
    edit(root, lambda content: content["summaries"].update(sha256=hashlib.sha256(data).hexdigest()))
    assert sum("tokenizer" in problem for problem in AdapterBank.open(root).check().problems) == 3
    path.unlink()
    with pytest.raises(BankError, match="there is no such summaries file"):
        _ = AdapterBank.open(root).summaries


def test_a_missing_base_is_named(root):
    shutil.rmtree(root / "base")
    with pytest.raises(BankError, match="lacks its base model"):
        _ = AdapterBank.open(root).base_model
    assert sum("is missing" in problem for problem in AdapterBank.open(root).check().problems) == 2


# Refusing to write


def test_a_bank_that_does_not_fit_is_not_written(tmp_path):
    parts = parts_of(tmp_path)
    bad = random_factors(9)
    bad[Q][1][0, 0] = np.inf
    write_peft(tmp_path / "adapters" / "alpha", bad, base_model_name_or_path="our-base")
    (tmp_path / "adapters" / "beta" / WEIGHTS).write_bytes(b"")
    parts["records"] = [
        record_of("alpha"),
        record_of("beta"),
        record_of("delta", rank=8),
        record_of("gamma", path="../x"),
    ]
    with pytest.raises(BankError) as caught:
        write_bank(tmp_path, **parts)
    for named in ("alpha: ", "NaN or infinite", "beta: ", "is empty", "delta: rank is 3 by the files and 8",
                  "gamma: the path '../x' leads out of the bank"):  # fmt: skip
        assert named in str(caught.value), named
    assert not (tmp_path / "bank.json").exists()
    assert not list(tmp_path.glob("summaries*"))


def test_summaries_records_and_base_must_agree(tmp_path):
    parts = parts_of(tmp_path)
    parts["summaries"] = summaries_of(["alpha", "beta", "delta", "zeta"])
    parts["base"] = BaseRecord("base", name="our-base", tokenizer_hash="other")
    with pytest.raises(BankError) as caught:
        write_bank(tmp_path, **parts)
    for named in ("the summaries lack gamma", "the summaries have zeta", "another tokenizer"):
        assert named in str(caught.value), named
    parts["base"] = BaseRecord("bsae", name="our-base")
    with pytest.raises(BankError, match="no directory bsae"):
        write_bank(tmp_path, **parts)
    good = parts_of(tmp_path / "other")
    with pytest.raises(BankError, match="cannot be JSON"):
        write_bank(tmp_path / "other", **{**good, "recipe": {"loss": float("nan")}})
    with pytest.raises(BankError, match=r"left_out\[0\]\.reason is missing"):
        write_bank(tmp_path / "other", **{**good, "left_out": [{"id": "x"}]})
    assert sorted(path.name for path in (tmp_path / "other").glob("[!.]*")) == ["adapters", "base"]


def test_a_crash_while_writing_leaves_the_old_manifest(root, monkeypatch):
    from lorameta.files import atomic

    before = (root / "bank.json").read_bytes()
    summaries = summaries_of(IDS)
    records = [record_of(name, task="other") for name in IDS]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(
        LorametaError, match=r"No space left on device; make room on the disk\. What was there is unchanged"
    ):
        write_bank(root, name="new", base=BaseRecord("base", name="our-base"), summaries=summaries, records=records,
                   left_out=[])  # fmt: skip
    monkeypatch.undo()
    assert (root / "bank.json").read_bytes() == before
    assert [path.name for path in root.rglob(".*") if path.name != ".lorameta"] == []
    assert AdapterBank.open(root).check().ok


def test_a_bank_of_a_hundred_opens_in_no_time(tmp_path):
    ids = [f"task-{i:03d}" for i in range(100)]
    parts = parts_of(tmp_path, ids=ids)
    history = {"losses": [0.1 * i for i in range(60)]}
    parts["records"] = [record_of(name, training=history, description="d" * 300) for name in ids]
    write_bank(tmp_path, **parts)
    spent = []
    for _ in range(5):
        begun = time.process_time()
        bank = AdapterBank.open(tmp_path)
        spent.append(time.process_time() - begun)
    assert len(bank) == 100
    assert min(spent) < 0.05
