"""`check` names every failure, all at once, from one reading of each file."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
import tracemalloc
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lorameta.adapter import peft_format
from lorameta.bank import AdapterBank, BaseRecord, check_bank, write_bank
from lorameta.bank.scan import Measures
from tests.bank.parts import WEIGHTS, edit, make_bank, parts_of, rehash, summaries_file
from tests.peft_helpers import DOWN, Q, random_factors, tensors_of, write_peft

CONFIG = "adapter_config.json"


def changed_config(**changes):
    def change(directory: Path) -> None:
        content = json.loads((directory / CONFIG).read_text())
        (directory / CONFIG).write_text(json.dumps({**content, **changes}))

    return change


def changed_tensors(change_them):
    def change(directory: Path) -> None:
        tensors = tensors_of(random_factors(5))
        change_them(tensors)
        save_file(tensors, directory / WEIGHTS)

    return change


def content(data: bytes):
    return lambda directory: (directory / WEIGHTS).write_bytes(data)


def cut(directory: Path) -> None:
    path = directory / WEIGHTS
    path.write_bytes(path.read_bytes()[:-9])


def pickled(directory: Path) -> None:
    (directory / WEIGHTS).unlink()
    (directory / "adapter_model.bin").write_bytes(pickle.dumps({"a": 1}))


def poison(value: float):
    def change(tensors: dict) -> None:
        tensors[f"base_model.model.{Q}.lora_B.weight"][3, 1] = value

    return changed_tensors(change)


def without_half(tensors: dict) -> None:
    del tensors[f"base_model.model.{DOWN}.lora_A.weight"]


def with_magnitude(tensors: dict) -> None:
    tensors[f"base_model.model.{Q}.lora_magnitude_vector.weight"] = np.ones(12, dtype=np.float32)


#: Failure → what does it to an adapter's directory, and what the report must say beside the adapter's id.
FAILURES = {
    "truncation": (cut, "is truncated"),
    "nothing": (content(b""), "is empty"),
    "LFS pointer": (content(b"version https://git-lfs.github.com/spec/v1\nsize 77\n"), "git-LFS pointer"),
    "HTML": (content(b"<!DOCTYPE html><html>"), "HTML page"),
    "pickle": (pickled, "adapter_model.bin is a pickle"),
    "pickle in disguise": (content(pickle.dumps({})), "is a pickle under another name"),
    "no weights": (lambda directory: (directory / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "NaN": (poison(np.nan), "NaN or infinite"),
    "Inf": (poison(-np.inf), "NaN or infinite"),
    "missing half": (changed_tensors(without_half), f"{DOWN} has no lora_A"),
    "DoRA tensor": (changed_tensors(with_magnitude), "DoRA magnitude"),
    "DoRA": (changed_config(use_dora=True), "use_dora: DoRA rescales"),
    "lora_bias": (changed_config(lora_bias=True), "lora_bias: the bias of lora_B"),
    "modules_to_save": (changed_config(modules_to_save=["lm_head"]), "modules_to_save: whole modules were trained"),
    "another base": (changed_config(base_model_name_or_path="other/base"), "trained on 'other/base'"),
    "another rank": (changed_config(r=5), "but rank 5 by the configuration"),
    "other numbers": (changed_tensors(lambda tensors: None), "sha256 is"),
    "no configuration": (lambda directory: (directory / CONFIG).unlink(), f"{CONFIG} is missing"),
    "link out of the bank": (
        lambda directory: (
            (directory / WEIGHTS).replace(directory.parents[2] / "w")
            and (directory / WEIGHTS).symlink_to(directory.parents[2] / "w")
        ),
        "link that leads out of the bank",
    ),
}


def test_every_failure_is_named_and_all_of_them_at_once(tmp_path):
    names = {failure: f"a{i:02d}" for i, failure in enumerate(FAILURES)}
    root = make_bank(tmp_path / "bank", [*names.values(), "sound", "sound2"])
    for failure, (do, _) in FAILURES.items():
        do(root / "adapters" / names[failure])
    report = AdapterBank.open(root).check()
    for failure, (_, said) in FAILURES.items():
        mine = [problem for problem in report.problems if problem.startswith(f"{names[failure]}: ")]
        assert any(said in problem for problem in mine), (failure, mine)
    assert not any(problem.startswith("sound") for problem in report.problems)
    assert report.adapters == len(FAILURES) + 2


def test_another_revision_is_named(tmp_path):
    parts = parts_of(tmp_path, base_model_name_or_path="o/b", revision="old")
    shutil.rmtree(tmp_path / "base")
    write_bank(tmp_path, **{**parts, "base": BaseRecord("o/b", revision="old")})
    edit(tmp_path, lambda manifest: manifest["base"].update(revision="new"))
    problems = AdapterBank.open(tmp_path).check().problems
    assert sum("revision old, the bank is of new" in problem for problem in problems) == 4


def test_numbers_that_are_not_finite_are_found_where_only_the_hash_is_right(tmp_path):
    """NaN that was there when the manifest was written by hand: the hash cannot tell."""
    root = make_bank(tmp_path / "bank", ["a", "b", "c"])
    poison(np.nan)(root / "adapters" / "b")
    rehash(root, "b")
    problems = AdapterBank.open(root).check().problems
    assert [problem[:3] for problem in problems] == ["b: "]
    assert "has 1 values that are NaN or infinite" in problems[0]


def test_each_weights_file_is_read_once(tmp_path, monkeypatch):
    root = make_bank(tmp_path / "bank", ["a", "b", "c"])
    monkeypatch.setattr(peft_format, "read_directory", None)  # the second reading, for messages
    assert AdapterBank.open(root).check().ok


def test_memory_does_not_grow_with_the_bank(tmp_path):
    shapes = {f"model.layers.{i}.self_attn.q_proj": (256, 256) for i in range(8)}

    def peak(count: int) -> int:
        root = tmp_path / f"bank{count}"
        parts = parts_of(root, ids=[f"a{i:02d}" for i in range(count)])
        for i, record in enumerate(parts["records"]):
            factors = random_factors(i, rank=16, shapes=shapes)
            write_peft(root / "adapters" / record.id, factors, base_model_name_or_path="our-base")
        write_bank(root, **parts)
        bank = AdapterBank.open(root)
        _ = bank.summaries
        tracemalloc.start()
        assert check_bank(bank, workers=1).ok
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    small, large = peak(4), peak(24)
    adapter = 8 * 2 * 16 * 256 * 4
    assert large - small < 2 * adapter  # of 20 more; one worker, since the scheduler decides what several hold at once


def test_another_tokenizer_is_named(tmp_path):
    parts = parts_of(tmp_path / "hub", ids=["a", "b"], base_model_name_or_path="o/b")
    shutil.rmtree(tmp_path / "hub" / "base")
    write_bank(tmp_path / "hub", **{**parts, "base": BaseRecord("o/b")})
    root = tmp_path / "hub"
    (root / "tokenizer").mkdir()
    for text, said in (
        ('{"model": {"type": "WordLevel", "vocab": {"b": 0}}}', "is another one than that of the summaries"),
        ("{", "is no tokenizer"),
    ):
        (root / "tokenizer" / "tokenizer.json").write_text(text)
        (problem,) = AdapterBank.open(root).check().problems
        assert said in problem


def test_what_was_fitted_to_other_adapters_is_warned_of(tiny_bank, tmp_path, lorameta):
    root = shutil.copytree(tiny_bank, tmp_path / "bank")
    lorameta("bank", "fit", root, "-d", "js", "--width", 2)
    (root / "leave_one_out.json").write_text(json.dumps({"bank": AdapterBank.open(root).content_hash}))
    assert AdapterBank.open(root).check().warnings == []
    assert [one["valid"] for one in lorameta("bank", "info", root, "--json").json["fitted"]] == [True, True]
    lorameta("bank", "remove", root, "opposite")
    warnings = "\n".join(AdapterBank.open(root).check().warnings)
    assert "operators/neural-js.safetensors: it was made for other adapters" in warnings
    assert "leave_one_out.json: it was made for other adapters" in warnings
    refused = lorameta("explain", tmp_path / "x.jsonl", "--bank", root, "--operator", "neural", "--distance", "js")
    assert refused.code == 2
    facts = lorameta("bank", "info", root, "--json").json["fitted"]
    assert [(one["name"], one["valid"]) for one in facts] == [("leave-one-out record", False), ("neural (js)", False)][
        ::-1
    ]


def test_threads_are_as_many_as_asked_for(tmp_path, monkeypatch):
    root = make_bank(tmp_path / "bank", [f"a{i}" for i in range(8)])
    names, add = set(), Measures.add

    def spy(self, *args):
        names.add(threading.current_thread().name)
        add(self, *args)

    monkeypatch.setattr(Measures, "add", spy)
    check_bank(AdapterBank.open(root), workers=1)
    assert len(names) == 1


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
