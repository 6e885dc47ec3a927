"""Building a bank out of folders: what is matched, refused, resumed, and what the result is."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder import import_adapters as take_module
from lorameta.bank_builder.local import build
from lorameta.bank_builder.summarise import Summariser
from lorameta.data import load_examples
from lorameta.encoder import TokenEncoder
from lorameta.errors import BankError, UsageError
from tests.bank.faults import needs_fork, survives
from tests.bank_builder.building import digest, options
from tests.conftest import TASKS, task_rows

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


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
