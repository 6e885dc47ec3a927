"""`bank build` from the Hub: what is asked for, what becomes of it, and what is left out."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lorameta.bank import AdapterBank
from lorameta.data import Example
from lorameta.encoder import TokenEncoder
from tests.conftest import ROWS, TASKS, task_rows
from tests.hub import repos
from tests.hub.stored import sha256
from tests.hub.transport import TOKEN


def build(lorameta, author, *words, out="bank"):
    return lorameta("bank", "build", out, "--hub-author", author.name, "--base", author.base, "--json", *words)


def left_out(path: Path) -> dict[str, str]:
    content = json.loads((path / "bank.json").read_bytes())
    return {entry["id"]: entry["reason"] for entry in content["left_out"]}


def test_an_index_holds_the_facts_of_the_hub_and_no_weights(lorameta, author, tmp_path):
    author.fill()
    done = build(lorameta, author)
    assert done.code == 0, done.err
    assert done.json["adapters"] == done.json["looked"] == done.json["encoded"] == len(TASKS)
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.name == author.name
    assert bank.base_model == author.base
    assert set(bank.away) == set(bank.ids) == {f"lora-{task}" for task in TASKS}
    for task in TASKS:
        record, repo = bank.records[f"lora-{task}"], author.repo("models", f"lora-{task}")
        files = repo.commits[repo.head]
        assert record.sha256 == sha256(files[repos.WEIGHTS])
        assert record.config_sha256 == sha256(files[repos.CONFIG])
        assert record.bytes == len(files[repos.WEIGHTS])
        assert (record.rank, record.alpha, record.rslora) == (4, 8, False)
        assert record.targets == ("k_proj", "q_proj", "v_proj")
        where = {"repo": repo.name, "revision": repo.head, "file": repos.WEIGHTS, "licence": "mit"}
        assert record.hub == where
        data = author.repo("datasets", task)
        assert record.source == {"repo": data.name, "commit": data.head, "name": "train"}
        assert (record.licence, record.rows) == ("cc-by-4.0", {"train": ROWS})
    encoder = TokenEncoder(author.bank / "base")
    assert bank.summaries.tokenizer_hash == encoder.tokenizer_hash == bank.manifest.base.tokenizer_hash
    for i, name in enumerate(bank.ids):
        examples = [Example(row["input"], (row["output"],)) for row in task_rows(name.removeprefix("lora-"))]
        np.testing.assert_array_equal(bank.summaries.token_counts[i], encoder.encode(examples).token_counts)
    assert not [hit for hit in author.hits if hit.sent and hit.file == repos.WEIGHTS]
    for task in TASKS:  # every row once
        data = author.repo("datasets", task)
        file = "data/train-00000-of-00001.parquet"
        assert author.sent()[data.name, file] == len(data.commits[data.head][file])
    assert json.loads((tmp_path / "bank" / "bank.json").read_bytes())["format"] == 2


def test_what_cannot_be_had_is_listed_and_the_rest_is_kept(lorameta, author, hub, tmp_path):
    author.fill("animal_sound", "opposite")
    for task in ("thing_colour", "number_word"):
        author.dataset(task)
    odd = {
        "dora": ({"use_dora": True}, "animal_sound"),
        "other-base": ({"base_model_name_or_path": "someone/else"}, "animal_sound"),
        "regex": ({"target_modules": r".*\.(q|k|v)_proj"}, "thing_colour"),
    }
    table = [{"adapter": f"{author.name}/lora-{task}", "dataset": f"{author.name}/{task}", "id": task}
             for task in ("animal_sound", "opposite")]  # fmt: skip
    for name, (changes, dataset) in odd.items():
        files = author.adapter("number_word", **changes).commits
        hub.add("models", f"{author.name}/{name}", next(iter(files.values())), {"library_name": "peft"})
        table.append({"adapter": f"{author.name}/{name}", "dataset": f"{author.name}/{dataset}"})
    whole = author.adapter("number_word")
    good = whole.commits[whole.head]
    hub.add("models", f"{author.name}/pickle", {repos.CONFIG: good[repos.CONFIG], "adapter_model.bin": b"x"})
    hub.add("models", f"{author.name}/gated", good).gated = True
    hub.add("models", f"{author.name}/private", good).private = True
    hub.add("models", f"{author.name}/new-name", good)
    hub.renamed[f"{author.name}/old-name"] = f"{author.name}/new-name"
    plain = {"configs": repos.CARD["configs"]}
    author.dataset("other-columns", [{"left": "1 + 1?", "right": "2"}] * 30, card=plain)
    author.dataset("empty", [])
    author.dataset("gated-rows", repos.lol_rows(task_rows("opposite"))).gated = True
    for name, dataset in [("pickle", "animal_sound"), ("gated", "animal_sound"), ("private", "animal_sound"),
                          ("nowhere", "animal_sound"), ("old-name", "number_word")]:  # fmt: skip
        table.append({"adapter": f"{author.name}/{name}", "dataset": f"{author.name}/{dataset}"})
    for name in ("other-columns", "empty", "gated-rows", "no-dataset"):
        hub.add("models", f"{author.name}/with-{name}", good)
        table.append({"adapter": f"{author.name}/with-{name}", "dataset": f"{author.name}/{name}"})
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, table)), encoding="utf-8")

    words = ("bank", "build", "bank", "--hub-list", "list.jsonl", "--base", author.base)
    done = lorameta(*words)
    assert done.code == 1, done.err
    bank = AdapterBank.open(tmp_path / "bank")
    assert set(bank.ids) == {"animal_sound", "opposite", "regex", "old-name"}
    assert bank.records["regex"].targets == ("k_proj", "q_proj", "v_proj")  # from the header of the weights
    assert bank.records["old-name"].hub["repo"] == f"{author.name}/new-name"
    reasons = left_out(tmp_path / "bank")
    for name, expected in {
        "dora": "DoRA",
        "other-base": "someone/else",
        "pickle": "adapter_model.bin, a pickle",
        "gated": "is gated; accept its conditions on its page on the Hub, then log in with: hf auth login",
        "private": "is not there, or private; check the name, or log in with: hf auth login",
        "nowhere": "is not there, or private",
        "with-other-columns": "20 of its rows cannot be used; row 1: ",
        "with-empty": "cannot be read by `datasets`",
        "with-gated-rows": f"{author.name}/gated-rows: is gated",
        "with-no-dataset": f"{author.name}/no-dataset: is not there",
    }.items():
        assert expected in reasons.pop(name), name
        assert f"left out: {name}: " in done.out
    assert not reasons
    assert f"renamed: {author.name}/old-name is called {author.name}/new-name by now" in done.out

    # What was in the way is gone: the same command asks for what is lacking, and for nothing else.
    author.forget()
    author.repo("models", "gated").gated = False
    done = lorameta(*words, "--json", HF_TOKEN=TOKEN)
    assert done.code == 1
    bank = AdapterBank.open(tmp_path / "bank")
    assert set(bank.ids) == {"animal_sound", "opposite", "regex", "old-name", "gated", "private", "with-gated-rows"}
    assert not [hit for hit in author.hits if hit.repo.endswith(("lora-animal_sound", "lora-opposite"))]
    assert set(bank.summaries.ids) == set(bank.ids)


def test_a_collection_and_a_base_that_is_not_named(lorameta, author, hub, tmp_path):
    author.fill("opposite", "number_word")
    slug = f"{author.name}/adapters-0123"
    hub.collections[slug] = [("model", f"{author.name}/lora-opposite"), ("dataset", f"{author.name}/number_word")]
    done = lorameta("bank", "build", "bank", "--hub-collection", slug)
    assert done.code == 2
    assert "--base" in done.err
    done = lorameta("bank", "build", "bank", "--hub-collection", slug, "--base", author.base)
    assert done.code == 0, done.err
    assert AdapterBank.open(tmp_path / "bank").ids == ("lora-opposite",)


def test_an_author_with_many_repositories_is_read_page_by_page(lorameta, author, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "page", 2)
    author.fill()
    hub.add("models", f"{author.name}/not-an-adapter", {"config.json": b"{}"})
    done = build(lorameta, author)
    assert done.code == 0, done.err
    assert len(AdapterBank.open(tmp_path / "bank")) == len(TASKS)


def test_the_preset_lists_what_is_not_there(lorameta, author, hub, tmp_path):
    base = "mistralai/Mistral-7B-Instruct-v0.2"
    files = {path.name: path.read_bytes() for path in (author.bank / "base").iterdir() if "token" in path.name}
    hub.add("models", base, files)
    names = {"task022": "task022_cosmosqa_passage_inappropriate_binary", "task1565": "task1565_triviaqa_classification"}
    for (task, dataset), mine in zip(names.items(), TASKS, strict=False):
        good = author.adapter(mine, base_model_name_or_path=base)
        hub.add("models", f"Lots-of-LoRAs/Mistral-7B-Instruct-v0.2-4b-r16-{task}", good.commits[good.head])
        repos.add_dataset(hub, "Lots-of-LoRAs", dataset, repos.lol_rows(task_rows(mine)))
    done = lorameta("bank", "build", "--preset", "lots-of-loras", "--json")
    assert done.code == 1, done.err
    assert done.json["adapters"] == 2
    assert len(done.json["left_out"]) == 500
    bank = AdapterBank.open(tmp_path / "cache" / "banks" / "lots-of-loras")
    assert set(bank.ids) == set(names.values())
    assert (bank.base_model, bank.records[names["task022"]].family) == (base, "cosmosqa")
    assert lorameta("bank", "info", "lots-of-loras").code == 0
    assert lorameta("bank", "build", "other", "--preset", "lots-of-lora").err.count("did you mean 'lots-of-loras'") == 1


#: The client's clock moves by what the client waits, at once; the waits are in a file at the end.
WAITS = """
import atexit, json, threading, time, types
from pathlib import Path
from lorameta.bank.hub import client
waits = []
class Event(threading.Event):
    def wait(self, seconds=None):
        waits.append(seconds)
        return self.is_set()
client.threading = types.SimpleNamespace(Lock=threading.Lock, Event=Event)
client.time = types.SimpleNamespace(monotonic=lambda: sum(waits), time=time.time)
atexit.register(lambda: Path("waits.json").write_text(json.dumps(waits)))
"""


def test_the_hub_is_busy_for_a_while(fresh, author, hub, tmp_path):
    author.fill("opposite")
    limit = hub.fail(rf"GET /api/models/{author.name}/lora", status=429, headers={"Retry-After": "2"}, times=1)
    down = hub.fail(rf"GET /api/datasets/{author.name}/opposite$", status=503, times=1)
    done = build(partial(fresh, before=WAITS), author, "--jobs", "1")
    assert done.code == 0, done.err
    assert (limit.met, down.met) == (2, 2)
    first, second = (wait for wait in json.loads((tmp_path / "waits.json").read_text()) if wait > 0)
    assert 2 <= first <= 2.5  # what the Hub asked for, and up to a quarter more
    assert 1 <= second <= 1.25
    assert len(AdapterBank.open(tmp_path / "bank")) == 1


def test_the_hub_asks_to_wait_for_too_long(lorameta, author, hub, tmp_path):
    author.fill()
    (tmp_path / "list.jsonl").write_text(
        "\n".join(json.dumps({"adapter": f"{author.name}/lora-{task}"}) for task in TASKS), encoding="utf-8"
    )
    words = ("bank", "build", "bank", "--hub-list", "list.jsonl", "--base", author.base, "--jobs", "1")
    hub.fail(rf"GET /api/datasets/{author.name}/opposite$", status=429, headers={"Retry-After": "9999"})
    done = lorameta(*words)
    assert done.code == 1
    assert "the Hub is busy (HTTP 429) and asks to wait 9999 s" in done.err
    assert "Run the same command again" in done.err
    assert not (tmp_path / "bank" / "bank.json").exists()
    hub.faults.clear()
    author.forget()
    done = lorameta(*words, "--json")
    assert done.code == 0, done.err
    assert (done.json["adapters"], done.json["looked"], done.json["encoded"]) == (4, 0, 1)
    assert {hit.repo for hit in author.hits} <= {f"{author.name}/opposite", author.base}
    assert not (tmp_path / "bank" / ".lorameta" / "hub").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bank", "build", "b", "--preset", "nothing"), "there is no preset 'nothing'; there are: lots-of-loras"),
        (("bank", "build", "--hub-author", "x", "--base", "a/b"), "OUT is missing"),
        (("bank", "build", "b", "--hub-author", "x", "--adapters", "d"), "one kind of source"),
        (("bank", "build", "b"), "--adapters, --base is missing"),
        (("bank", "build", "b", "--preset", "lots-of-loras", "--offline"), "this run is offline"),
        (("bank", "build", "full", "--preset", "lots-of-loras"), "is not empty: it holds precious"),
        (("bank", "build", "b", "--hub-author", "nobody", "--base", "a/b"), "has no PEFT adapter"),
        (("bank", "build", "b", "--hub-list", "bad.csv", "--base", "a/b"), "adapter 'no id' is no id of the Hub"),
        (("bank", "pull", "nothing"), "'nothing' is no id of a bank"),
        (("bank", "pull", "no/where"), "is not there, or private; check the name, or log in with: hf auth login"),
        (("generate", "rows.jsonl", "-o", "out", "--bank", "no/where"), "lorameta bank pull no/where"),
        (("generate", "rows.jsonl", "-o", "out", "--bank", "lots-of-loras"), "lorameta bank build --preset"),
    ],
)
def test_bad_calls_say_what_to_do(lorameta, tmp_path, words, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    (tmp_path / "bad.csv").write_text("adapter\nno id\n")
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n' * 2)
    done = lorameta(*words)
    assert done.code in (1, 2)
    assert said in done.err
    assert "unexpected" not in done.err
    assert not (tmp_path / "b" / "bank.json").exists()
