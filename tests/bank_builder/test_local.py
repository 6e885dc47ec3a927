"""Building a bank out of folders: what is matched, refused, resumed, and what the result is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder import import_adapters as take_module
from lorameta.bank_builder.local import build
from lorameta.bank_builder.summarise import Summariser
from lorameta.data import load_examples
from lorameta.encoder import Summaries, TokenEncoder
from lorameta.errors import BankError, UsageError
from tests.bank.faults import needs_fork, survives
from tests.conftest import TASKS, task_rows
from tests.peft_helpers import write_peft

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def parts(tiny_bank, tmp_path) -> Path:
    """A folder with `adapters`, `datasets` and `base`, as one would have them."""
    folder = tmp_path / "parts"
    shutil.copytree(tiny_bank / "base", folder / "base")
    (folder / "datasets").mkdir()
    for task in TASKS:
        shutil.copytree(tiny_bank / "adapters" / task, folder / "adapters" / task)
        path = folder / "adapters" / task / CONFIG
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "base_model_name_or_path": str(folder / "base")}))
        lines = [json.dumps(row) for row in task_rows(task)]
        (folder / "datasets" / f"{task}.jsonl").write_text("\n".join(lines))
    return folder


def options(parts: Path, **others) -> dict:
    return {"adapters": parts / "adapters", "datasets": parts / "datasets", "base": str(parts / "base"), **others}


def digest(root: Path) -> dict[str, bytes]:
    """Every visible file of a bank."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("[!.]*")) if p.is_file()
            and ".lorameta" not in p.parts}  # fmt: skip


def test_a_bank_has_what_was_put_in(parts, tmp_path, tiny_bank):
    built = build(tmp_path / "bank", **options(parts))
    bank = AdapterBank.open(tmp_path / "bank")
    assert (built.adapters, built.copied, built.encoded, bank.name) == (4, 4, 4, "bank")
    assert bank.ids == tuple(sorted(TASKS))
    report = bank.check()
    assert (report.problems, report.warnings) == ([], [])
    old = AdapterBank.open(tiny_bank)
    encoder = TokenEncoder(tiny_bank / "base")
    for task in TASKS:
        counts = encoder.encode(load_examples(parts / "datasets" / f"{task}.jsonl")).token_counts
        np.testing.assert_array_equal(bank.summaries[task].token_counts, counts)
        np.testing.assert_array_equal(bank.summaries[task].token_counts, old.summaries[task].token_counts)
        assert bank.summaries[task].rows == bank.records[task].rows["train"] == len(task_rows(task))
        for module, pair in old[task].modules.items():
            np.testing.assert_array_equal(bank[task].modules[module].delta(), pair.delta())
    assert not (bank.path / ".lorameta" / "build").exists()


def test_where_the_base_is(parts, tmp_path):
    """Named by its path with a copy of its tokenizer; or carried along, and then it may go."""
    built = build(tmp_path / "named", **options(parts))
    named = AdapterBank.open(tmp_path / "named")
    assert named.base_model == str((parts / "base").resolve())
    assert named.tokenizer_path == (tmp_path / "named" / "tokenizer").resolve()
    assert any("--copy-base" in note for note in built.notes)
    build(tmp_path / "carried", **options(parts, copy_base=True))
    carried = AdapterBank.open(tmp_path / "carried")
    assert carried.base_model == str((tmp_path / "carried" / "base").resolve())
    assert set(carried.manifest.base.sha256) == {path.name for path in (parts / "base").iterdir()}
    (parts / "base").rename(parts / "gone")
    assert AdapterBank.open(tmp_path / "carried").check().problems == []
    assert carried["opposite"].modules
    assert "is not on this machine" in AdapterBank.open(tmp_path / "named").check().warnings[0]
    assert AdapterBank.open(tmp_path / "named")["opposite"].modules


def test_a_base_of_the_hub(parts, tmp_path):
    for path in parts.glob(f"adapters/*/{CONFIG}"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "Owner/Base"}))
    with pytest.raises(UsageError, match="give --tokenizer"):
        build(tmp_path / "bank", **options(parts, base="owner/base"))
    tokenizer = str(parts / "base")
    build(tmp_path / "bank", **options(parts, base="owner/base", revision="abc", tokenizer=tokenizer, name="mine"))
    bank = AdapterBank.open(tmp_path / "bank")
    assert (bank.base_model, bank.base_revision, bank.name) == ("owner/base", "abc", "mine")
    assert (bank.path / "tokenizer" / "tokenizer.json").is_file()
    assert bank.check().ok
    with pytest.raises(BankError, match="--base-name Owner/Base") as caught:
        build(tmp_path / "other", **options(parts))
    assert str(caught.value).count("trained on 'Owner/Base'") == 4
    build(tmp_path / "other", **options(parts, base_name="owner/base"))
    assert AdapterBank.open(tmp_path / "other").check().ok


def test_one_base_under_the_names_of_several_tools(parts, tmp_path):
    names = ["owner/tiny-mistral", "unsloth/tiny-mistral-bnb-4bit", "/data/models/tiny-mistral", "me/my-copy"]
    for path, name in zip(sorted(parts.glob(f"adapters/*/{CONFIG}")), names, strict=True):
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": name}))
    with pytest.raises(BankError, match="--base-name me/my-copy") as caught:
        build(tmp_path / "bank", **options(parts, base_name="owner/tiny-mistral"))
    assert str(caught.value).count("trained on") == 1  # quantized copies and folders of the same name are known
    build(tmp_path / "bank", **options(parts, base_name=["owner/tiny-mistral", "me/my-copy"]))
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.manifest.base.also == ("me/my-copy",)
    assert bank.check().ok
    hub = options(parts, base="owner/tiny-mistral", base_name=["me/my-copy"], tokenizer=str(parts / "base"))
    build(tmp_path / "hub", **hub)
    assert AdapterBank.open(tmp_path / "hub").base_model == "owner/tiny-mistral"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"base": "no/such/place"}, "no directory"),
        ({"base": "owner/base", "copy_base": True}, "--copy-base is for a base in a directory"),
        ({"revision": "abc"}, "--revision is for a base on the Hub"),
        ({"tokenizer": "nowhere"}, "--tokenizer: there is no"),
        ({"datasets": None}, "--datasets"),
        ({"adapters": "nowhere"}, "--adapters: there is no directory"),
        ({"summaries": "x.safetensors"}, "--datasets"),
    ],
)
def test_options_that_cannot_work(parts, tmp_path, change, named):
    with pytest.raises(UsageError, match=named):
        build(tmp_path / "bank", **{**options(parts), **change})
    assert not (tmp_path / "bank" / "bank.json").exists()


def test_a_directory_of_others_is_not_built_in(parts, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"not empty: it holds thesis\.tex"):
        build(tmp_path / "full", **options(parts))
    build(tmp_path / "bank", **options(parts))
    with pytest.raises(UsageError, match="is a bank already"):
        build(tmp_path / "bank", **options(parts))


def test_what_does_not_match_is_listed_all_at_once(parts, tmp_path):
    (parts / "datasets" / "opposite.jsonl").rename(parts / "datasets" / "oposite.jsonl")
    shutil.copy(parts / "datasets" / "number_word.jsonl", parts / "datasets" / "number_word.json")
    shutil.copytree(parts / "adapters" / "opposite", parts / "adapters" / "bad name")
    with pytest.raises(BankError) as caught:
        build(tmp_path / "bank", **options(parts))
    for named in ("opposite: has no dataset", "did you mean oposite", "number_word: has several datasets",
                  "'bad name' is no safe file name"):  # fmt: skip
        assert named in str(caught.value), named


def test_an_index_names_what_does_not_match(parts, tmp_path):
    (parts / "adapters" / "opposite").rename(parts / "adapters" / "Run 7 (final)")
    (parts / "datasets" / "opposite.jsonl").rename(parts / "datasets" / "rows7.jsonl")
    (parts / "index.csv").write_text(
        "id,adapter,dataset,task,family,licence,source\n"
        'opposite,Run 7 (final),rows7.jsonl,Opposites,words,MIT,"{""repo"": ""o/r""}"\n'
        "animal_sound,,,,facts,CC0-1.0,a book\n"
    )
    build(tmp_path / "bank", **options(parts, index=parts / "index.csv"))
    records = AdapterBank.open(tmp_path / "bank").records
    assert set(records) == set(TASKS)
    one, other = records["opposite"], records["animal_sound"]
    assert (one.task, one.family, one.licence, one.source) == ("Opposites", "words", "MIT", {"repo": "o/r"})
    assert (other.task, other.family, other.source) == ("animal_sound", "facts", {"name": "a book"})
    (parts / "bad.jsonl").write_text('{"id": "x", "colour": 1}\n{"task": "y"}\n{"id": "x"}\n')
    with pytest.raises(Exception, match="unknown column colour") as caught:
        build(tmp_path / "other", **options(parts, index=parts / "bad.jsonl"))
    assert "has no id" in str(caught.value)
    assert "'x' is there twice" in str(caught.value)


def spoil(parts: Path) -> None:
    """Two adapters and one dataset that no bank can have."""
    (parts / "adapters" / "opposite" / WEIGHTS).write_bytes(b"<html>")
    path = parts / "adapters" / "number_word" / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_dora": True, "modules_to_save": ["x"]}))


def test_refused_adapters_are_listed_all_at_once_or_left_out(parts, tmp_path):
    spoil(parts)
    with pytest.raises(BankError) as caught:
        build(tmp_path / "bank", **options(parts))
    for named in ("opposite: ", "HTML page", "number_word: ", "use_dora", "modules_to_save", "--skip-bad"):
        assert named in str(caught.value), named
    assert not (tmp_path / "bank" / "bank.json").exists()
    (parts / "datasets" / "animal_sound.jsonl").write_text('{"input": 1\n')
    built = build(tmp_path / "bank", **options(parts, skip_bad=True))
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.ids == ("thing_colour",)
    assert [entry["id"] for entry in built.left_out] == ["animal_sound", "number_word", "opposite"]
    assert built.left_out == bank.manifest.left_out
    assert "HTML page" in built.left_out[2]["reason"]
    assert bank.check().ok


def test_adapters_of_other_shapes_are_refused(parts, tmp_path):
    factors = {"model.layers.0.self_attn.q_proj": (np.ones((4, 30), np.float32), np.ones((32, 4), np.float32))}
    write_peft(parts / "adapters" / "opposite", factors, base_model_name_or_path=str(parts / "base"))
    with pytest.raises(BankError, match=r"opposite: .*q_proj is \(32, 30\), that of the others \(32, 32\)"):
        build(tmp_path / "bank", **options(parts))


def test_summaries_alone(parts, tmp_path, tiny_bank):
    file = tiny_bank / "summaries.safetensors"
    build(tmp_path / "bank", **options(parts, datasets=None, summaries=file))
    bank, old = AdapterBank.open(tmp_path / "bank"), AdapterBank.open(tiny_bank)
    np.testing.assert_array_equal(bank.summaries.means, old.summaries.select(bank.ids).means)
    assert bank.summaries.has("sentence")
    shutil.copytree(parts / "adapters" / "opposite", parts / "adapters" / "oposite")
    with pytest.raises(BankError, match="oposite: the summaries lack it; did you mean opposite"):
        build(tmp_path / "other", **options(parts, datasets=None, summaries=file))
    shutil.rmtree(parts / "adapters" / "oposite")
    known = Summaries.load(file)
    from dataclasses import replace

    replace(known, tokenizer_hash="0" * 64).save(tmp_path / "foreign.safetensors")
    with pytest.raises(BankError, match="another tokenizer"):
        build(tmp_path / "other", **options(parts, datasets=None, summaries=tmp_path / "foreign.safetensors"))


def test_links_share_their_bytes_with_the_source(parts, tmp_path):
    build(tmp_path / "bank", **options(parts, link=True))
    source, copy = parts / "adapters" / "opposite" / WEIGHTS, tmp_path / "bank" / "adapters" / "opposite" / WEIGHTS
    assert source.samefile(copy)
    assert not (tmp_path / "bank" / "bank.json").samefile(parts / "adapters" / "opposite" / CONFIG)


def test_what_was_finished_is_not_done_twice(parts, tmp_path, monkeypatch):
    """Stopped by one bad dataset at the end: the second run copies, reads and encodes only that one."""
    whole = build(tmp_path / "whole", **options(parts))
    good = (parts / "datasets" / "thing_colour.jsonl").read_text()
    (parts / "datasets" / "thing_colour.jsonl").write_text("{")
    with pytest.raises(BankError, match="thing_colour"):
        build(tmp_path / "bank", **options(parts))
    (parts / "datasets" / "thing_colour.jsonl").write_text(good)
    encoded, scanned = [], []
    encode, scan = Summariser.encode, take_module.scan_directory
    monkeypatch.setattr(Summariser, "encode", lambda self, name, path: encoded.append(name) or encode(self, name, path))
    monkeypatch.setattr(take_module, "scan_directory", lambda *args: scanned.append(args) or scan(*args))
    built = build(tmp_path / "bank", **options(parts))
    assert (encoded, scanned, built.copied, built.encoded) == (["thing_colour"], [], 0, 1)
    assert whole.encoded == 4
    one, other = digest(tmp_path / "whole"), digest(tmp_path / "bank")
    assert one.pop("bank.json") == other.pop("bank.json").replace(b'"name": "bank"', b'"name": "whole"')
    assert one == other


def test_a_source_that_changed_meanwhile_is_taken_anew(parts, tmp_path):
    (parts / "datasets" / "thing_colour.jsonl").write_text("{")
    with pytest.raises(BankError):
        build(tmp_path / "bank", **options(parts))
    (parts / "datasets" / "thing_colour.jsonl").write_text('{"input": "a", "output": "b"}\n{"input": "c"}')
    shutil.copy(parts / "adapters" / "opposite" / WEIGHTS, parts / "adapters" / "animal_sound" / WEIGHTS)
    (parts / "datasets" / "animal_sound.jsonl").write_text('{"text": "one"}\n{"text": "two"}')
    built = build(tmp_path / "bank", **options(parts))
    bank = AdapterBank.open(tmp_path / "bank")
    assert (built.copied, built.encoded) == (1, 2)
    assert bank.records["animal_sound"].sha256 == bank.records["opposite"].sha256
    assert bank.summaries["animal_sound"].rows == 2
    assert bank.check().problems == []


@needs_fork
@pytest.mark.parametrize("half", [False, True], ids=["any change", "half a file"])
def test_a_build_killed_anywhere_is_finished_by_the_next(parts, tmp_path, half):
    for task in ("number_word", "thing_colour"):  # two adapters are enough
        shutil.rmtree(parts / "adapters" / task)
    root = tmp_path / "bank"
    action = lambda: build(root, **options(parts, copy_base=True))  # noqa: E731
    action()
    expected = digest(root)
    steps, n = (1, 0) if half else (3, 0)
    while True:
        shutil.rmtree(root)
        ended = survives(n, action, root, half=half)
        if not (root / "bank.json").exists() or (root / ".lorameta" / "build").is_dir():
            assert action().adapters == 2
        assert not (root / ".lorameta" / "build").exists()
        assert digest(root) == expected, f"killed at change {n}"
        assert AdapterBank.open(root).check().problems == []
        n += steps
        if ended:
            break
    assert n > 8


def test_two_builds_at_once(parts, tmp_path):
    """The second waits for the first, and then finds a bank."""
    import threading

    done = []

    def run() -> None:
        try:
            done.append(build(tmp_path / "bank", **options(parts)).adapters)
        except UsageError as error:
            done.append("bank" in str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, done)) == ["4", "True"]
    assert AdapterBank.open(tmp_path / "bank").check().ok


def test_sentence_summaries(parts, tmp_path, monkeypatch):
    """The encoder is replaced; what it would be asked, and what becomes of its answer, is not."""
    import lorameta.encoder as encoders
    from lorameta.encoder.sentence import moments
    from lorameta.encoder.summary import DatasetSummary

    class Fake:
        model, sha256, MAX_ROWS, KEEPS = "fake", "0" * 64, 2000, "end"

        def __init__(self, max_rows):
            self.max_rows = max_rows

        def encode(self, examples, seed):
            cloud = np.array([[len(example.text), example.text.count("e")] for example in examples], float) / 100
            mean, factor, residual = moments(cloud, 2)
            sample = cloud[:3].astype(np.float32)
            return DatasetSummary(len(cloud), mean=mean, covariance_factor=factor, residual_variance=residual,
                                  sample=sample)  # fmt: skip

    monkeypatch.setattr(encoders, "SentenceEncoder", Fake)
    build(tmp_path / "bank", **options(parts, sentences=True))
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.summaries.has("sentence")
    assert bank.summaries.has("tokens")
    assert bank.manifest.encoders["sentence"] == {
        "model": "fake", "sha256": "0" * 64, "rows_at_most": 2000, "keeps": "end",
    }  # fmt: skip
    texts = [example.text for example in load_examples(parts / "datasets" / "opposite.jsonl")]
    mean = np.mean([[len(text), text.count("e")] for text in texts], axis=0) / 100
    np.testing.assert_allclose(bank.summaries["opposite"].mean, mean, rtol=1e-3)


@pytest.mark.slow
def test_the_embedded_banks_adapters_make_the_same_bank(tmp_path):
    """Its own adapters, with datasets made up here: the histograms are the encoder's, the updates its own."""
    old = AdapterBank.open("tiny")
    ids = old.ids[:6]
    (tmp_path / "rows").mkdir()
    for i, name in enumerate(ids):
        shutil.copytree(old.path / old.records[name].path, tmp_path / "adapters" / name)
        lines = [json.dumps({"input": f"{name} {k * i}", "output": str(k)}) for k in range(20)]
        (tmp_path / "rows" / f"{name}.jsonl").write_text("\n".join(lines))
    build(
        tmp_path / "bank", tmp_path / "adapters", datasets=tmp_path / "rows", base=str(old.path / "base"),
        base_name=old.manifest.base.name,
    )  # fmt: skip
    bank = AdapterBank.open(tmp_path / "bank")
    encoder = TokenEncoder(old.path / "base")
    for name in ids:
        counts = encoder.encode(load_examples(tmp_path / "rows" / f"{name}.jsonl")).token_counts
        np.testing.assert_array_equal(bank.summaries[name].token_counts, counts)
        assert bank.records[name].sha256 == old.records[name].sha256
    assert bank.check().ok
    assert bank.check().notes[0].startswith("6 adapters share an initial A")
