"""Adapters that a mix fetches from the Hub: these alone, whole, the right ones, once; and what happens if not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank
from tests.conftest import TASKS
from tests.hub import repos
from tests.hub.transport import TOKEN

NEAREST = "lora-animal_sound"


@pytest.fixture
def index(lorameta, author, tmp_path) -> Path:
    """A bank of four adapters that are on the Hub, written as `bank build` does, but without its seconds."""
    author.fill()
    done = lorameta("bank", "build", "bank", "--hub-author", author.name, "--base", author.base)
    assert done.code == 0, done.err
    author.forget()
    return tmp_path / "bank"


def generate(lorameta, rows, out="out", *words, **env):
    return lorameta(
        "generate",
        rows,
        "-o",
        out,
        "--bank",
        "bank",
        "--operator",
        "normalized",
        "--top-k",
        "2",
        "--json",
        *words,
        **env,
    )


def test_a_mix_fetches_its_adapters_and_nothing_else(lorameta, author, index, rows, tmp_path):
    done = generate(lorameta, rows)
    assert done.code == 0, done.err
    chosen = [name for name, weight in done.json["weights"].items() if weight]
    assert len(chosen) == 2
    assert NEAREST in chosen
    expected = {}
    for name in chosen:
        repo = author.repo("models", name)
        for file in (repos.CONFIG, repos.WEIGHTS):
            expected[repo.name, file] = len(repo.commits[repo.head][file])
    assert author.sent() == expected
    assert set(AdapterBank.open(index).away) == {f"lora-{task}" for task in TASKS} - set(chosen)
    for name in chosen:  # they are bit by bit what the author has
        repo = author.repo("models", name)
        assert (index / "adapters" / name / repos.WEIGHTS).read_bytes() == repo.commits[repo.head][repos.WEIGHTS]
    author.forget()
    again = generate(lorameta, rows, "again")
    assert again.code == 0
    assert not author.hits
    one, other = (Adapter.from_pretrained(tmp_path / out) for out in ("out", "again"))
    assert all((one.modules[m].B == other.modules[m].B).all() for m in one.modules)


def test_hub_adapters_mix_as_those_of_a_directory_do(lorameta, index, rows, tiny_bank, tmp_path):
    """The oracle: the same adapters, in a bank that never heard of a Hub."""
    for out, bank in (("out", "bank"), ("local", tiny_bank)):
        done = lorameta("generate", rows, "-o", out, "--bank", bank, "--fast", "--combiner", "concat", "--json")
        assert done.code == 0, done.err
    one, other = (Adapter.from_pretrained(tmp_path / out) for out in ("out", "local"))
    assert one.modules.keys() == other.modules.keys()
    for module, pair in one.modules.items():
        np.testing.assert_allclose(pair.delta(), other.modules[module].delta(), rtol=1e-4, atol=1e-6)


def test_a_dense_operator_takes_the_nearest_only(lorameta, author, index, rows):
    done = lorameta("explain", rows, "--bank", "bank", "--json")
    assert done.code == 0, done.err
    assert done.json["top_k"] == 4  # 20, or all of a smaller bank
    assert not author.sent()  # weights are found without adapters


def test_a_damaged_transfer_is_repeated_and_a_wrong_file_refused(lorameta, author, hub, index, rows):
    once = hub.fail(rf"GET /cdn/models/{author.name}/{NEAREST}/", wrong=True, times=1)
    assert generate(lorameta, rows).code == 0
    assert once.met == 2
    shutil.rmtree(index / "adapters")
    hub.fail(rf"GET /cdn/models/{author.name}/{NEAREST}/", wrong=True)
    done = generate(lorameta, rows, "other")
    assert done.code == 1
    assert (
        f"{NEAREST}: {author.name}/{NEAREST}/adapter_model.safetensors: what the Hub sent has the SHA-256" in done.err
    )
    assert not (index / "adapters" / NEAREST / repos.WEIGHTS).exists()
    hub.faults.clear()
    assert generate(lorameta, rows, "other").code == 0


def test_a_cut_connection_is_taken_up_where_it_broke(lorameta, author, hub, index, rows, tmp_path):
    """The Hub's client keeps blocks of 10 MiB, so this adapter is a wide one."""
    rng = np.random.default_rng(0)
    factors = {
        "base_model.model.model.wide.q_proj.lora_A.weight": rng.normal(size=(4, 800_000)).astype(np.float32),
        "base_model.model.model.wide.q_proj.lora_B.weight": rng.normal(size=(8, 4)).astype(np.float32),
    }
    repo = author.repo("models", NEAREST)
    data = save(factors)
    repo.commit({repos.WEIGHTS: data})
    assert lorameta("bank", "build", "wide", "--hub-author", author.name, "--base", author.base).code == 0
    author.forget()
    cut = hub.fail(rf"GET /cdn/models/{author.name}/{NEAREST}/", cut_after=11_000_000, times=1)
    done = lorameta("generate", rows, "-o", "out", "--bank", "wide", "--top-k", "1", "--json")
    assert done.code == 0, done.err
    assert cut.met == 2
    assert (tmp_path / "wide" / "adapters" / NEAREST / repos.WEIGHTS).read_bytes() == data
    assert author.sent()[repo.name, repos.WEIGHTS] == 11_000_000 + len(data) - 10 * 2**20
    assert [hit.status for hit in author.hits if hit.file == repos.WEIGHTS and hit.sent] == [200, 206]


def test_the_token_stays_with_the_hub(lorameta, author, index, rows):
    for task in TASKS:
        author.repo("models", f"lora-{task}").gated = True
    assert "is gated" in generate(lorameta, rows).err
    author.forget()
    assert generate(lorameta, rows, HF_TOKEN=TOKEN).code == 0
    carried = {hit.token for hit in author.hits if "/cdn/" not in hit.path}
    elsewhere = {hit.token for hit in author.hits if "/cdn/" in hit.path}
    assert (carried, elsewhere) == ({True}, {False})


def test_a_repository_that_changes_under_us(lorameta, author, index, rows):
    """The index is of one commit: what came later is not taken, and what was there is, wherever it is by now."""
    repo = author.repo("models", NEAREST)
    old = repo.commits[repo.head][repos.WEIGHTS]
    repo.commit({repos.WEIGHTS: bytes(len(old))})
    assert generate(lorameta, rows).code == 0
    assert (index / "adapters" / NEAREST / repos.WEIGHTS).read_bytes() == old
    shutil.rmtree(index / "adapters")
    repo.commit({repos.WEIGHTS: old, "new.txt": b"x"}, forget=True)  # the history is rewritten
    assert generate(lorameta, rows, "other").code == 0
    shutil.rmtree(index / "adapters")
    repo.commit({repos.WEIGHTS: bytes(len(old))}, forget=True)
    done = generate(lorameta, rows, "third")
    assert done.code == 1
    assert "or make the bank again if the repository was changed" in done.err


def test_all_that_cannot_be_had_is_said_at_once(lorameta, author, hub, index, rows):
    del hub.repos["models", f"{author.name}/lora-opposite"]
    author.repo("models", NEAREST).private = True
    done = generate(lorameta, rows)
    assert done.code == 1
    assert "2 adapters could not be fetched" in done.err
    assert f"  - {NEAREST}: {author.name}/{NEAREST}/adapter_config.json: is not there, or private" in done.err
    assert "  - lora-opposite: " in done.err


def test_offline_names_what_is_lacking(lorameta, author, index, rows):
    done = lorameta("generate", rows, "-o", "out", "--bank", "bank", "--top-k", "2", HF_HUB_OFFLINE="1")
    assert done.code == 1
    assert "2 adapters of the bank" in done.err
    assert f"  - {NEAREST}: {author.name}/{NEAREST}" in done.err
    assert "without --offline" in done.err
    assert not author.hits


def test_the_other_verbs_know_what_is_not_here(lorameta, author, index, rows, tiny_bank):
    assert generate(lorameta, rows).code == 0
    author.forget()
    info = lorameta("bank", "info", "bank", "--json")
    assert info.json["away"] == 2
    check = lorameta("bank", "check", "bank", "--json")
    assert check.code == 0, check.out
    assert check.json["adapters"] == 2
    assert any("2 adapters are on the Hub and not here yet" in note for note in check.json["notes"])
    # A fetched adapter that is damaged later is found as any other is.
    path = index / "adapters" / NEAREST / repos.WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + b"\0\0\0\0")
    assert lorameta("bank", "check", "bank").code == 2
    path.write_bytes(whole)
    stacked = lorameta("bank", "stack", "bank", "--json")
    assert stacked.code == 0, stacked.err
    assert stacked.json["adapters"] == 2
    assert generate(lorameta, rows, "stacked").code == 0
    assert lorameta("bank", "stack", "bank", "--undo").code == 0
    row = {"input": "a b c", "output": "d"}
    (index.parent / "rows2.jsonl").write_text(f"{json.dumps(row)}\n" * 3)
    source = index.parent / "mine"
    shutil.copytree(tiny_bank / "adapters" / "opposite", source)
    config = json.loads((source / repos.CONFIG).read_bytes()) | {"base_model_name_or_path": author.base}
    (source / repos.CONFIG).write_text(json.dumps(config))
    added = lorameta("bank", "add", "bank", source, "--id", "mine", "--data", "rows2.jsonl")
    assert added.code == 0, added.err
    assert lorameta("bank", "remove", "bank", "lora-opposite").code == 0
    assert not author.hits
    assert set(AdapterBank.open(index).ids) == {"lora-animal_sound", "lora-number_word", "lora-thing_colour", "mine"}
