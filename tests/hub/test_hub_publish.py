"""`bank push`, `bank pull` and `push`: what is published, and what others get of it."""

from __future__ import annotations

import json
import shutil

import pytest

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank
from tests.hub import repos
from tests.hub.stored import sha256
from tests.hub.transport import TOKEN

NEAREST = "lora-animal_sound"


@pytest.fixture
def published(lorameta, author, tmp_path):
    """The id of a bank on the Hub whose adapters are those of an author."""
    author.fill()
    assert lorameta("bank", "build", "bank", "--hub-author", author.name, "--base", author.base).code == 0
    done = lorameta("bank", "push", "bank", f"{author.name}/bank", "--json", HF_TOKEN=TOKEN)
    assert done.code == 0, done.err
    author.forget()
    return f"{author.name}/bank"


def test_what_is_pulled_is_what_was_pushed(lorameta, author, published, rows, tmp_path):
    files = author.repo("models", "bank").commits[author.repo("models", "bank").head]
    assert not [name for name in files if name.startswith("adapters")]
    assert b"lorameta bank pull" in files["README.md"]
    done = lorameta("bank", "pull", published, "--json")
    assert done.code == 0, done.err
    index = {name: len(data) for name, data in files.items() if name not in ("README.md", ".gitattributes")}
    assert author.sent() == {(published, name): size for name, size in index.items()}
    assert done.json["bytes"] == sum(index.values())
    one, other = AdapterBank.open(tmp_path / "bank"), AdapterBank.open(done.json["bank"])
    assert one.records == other.records
    assert one.content_hash == other.content_hash
    assert one.manifest.summaries == other.manifest.summaries
    author.forget()
    assert lorameta("generate", rows, "-o", "out", "--bank", published, "--top-k", "1").code == 0
    assert {repo for repo, _ in author.sent()} == {f"{author.name}/{NEAREST}"}
    assert lorameta("generate", rows, "-o", "out2", "--bank", f"hub:{published}", "--top-k", "1").code == 0


def test_a_bank_brings_its_own_adapters_and_its_base(lorameta, author, rows, tiny_bank, tmp_path):
    """A bank that was made of directories: adapters are fetched from the bank's own repository."""
    name = f"{author.name}/own"
    done = lorameta("bank", "push", tiny_bank, name, "--private", HF_TOKEN=TOKEN)
    assert done.code == 0, done.err
    assert author.repo("models", name).private
    author.forget()
    done = lorameta("bank", "pull", name, "-o", "pulled", HF_TOKEN=TOKEN)
    assert done.code == 0, done.err
    assert not [file for _, file in author.sent() if file.startswith("adapters")]
    for bank, out in ((tiny_bank, "one"), ("pulled", "other")):
        made = lorameta("generate", rows, "-o", out, "--bank", bank, "--top-k", "1", HF_TOKEN=TOKEN)
        assert made.code == 0, made.err
    assert sum(file.endswith(repos.WEIGHTS) for _, file in author.sent()) == 1
    assert (tmp_path / "one" / repos.WEIGHTS).read_bytes() == (tmp_path / "other" / repos.WEIGHTS).read_bytes()
    pulled = AdapterBank.open(tmp_path / "pulled")
    assert pulled.content_hash == AdapterBank.open(tiny_bank).content_hash
    assert lorameta("bank", "check", "pulled").code == 0


def test_a_bank_is_brought_up_to_date(lorameta, author, published, rows, tmp_path):
    assert lorameta("bank", "pull", published, "-o", "pulled").code == 0
    assert lorameta("generate", rows, "-o", "out", "--bank", "pulled", "--top-k", "2").code == 0
    here = set(AdapterBank.open(tmp_path / "pulled").ids) - set(AdapterBank.open(tmp_path / "pulled").away)
    assert len(here) == 2
    repo = author.repo("models", NEAREST)
    other = author.repo("models", "lora-number_word")
    repo.commit({repos.WEIGHTS: other.commits[other.head][repos.WEIGHTS]})  # the author trained it again
    shutil.rmtree(tmp_path / "bank")
    assert lorameta("bank", "build", "bank", "--hub-author", author.name, "--base", author.base).code == 0
    done = lorameta("bank", "push", "bank", published, HF_TOKEN=TOKEN)
    assert done.code == 0, done.err
    author.forget()
    assert lorameta("bank", "pull", published, "-o", "pulled").code == 0
    bank = AdapterBank.open(tmp_path / "pulled")
    assert set(bank.away) == set(bank.ids) - (here - {NEAREST})  # the others are as they were
    assert lorameta("generate", rows, "-o", "out2", "--bank", "pulled", "--top-k", "2").code == 0
    record = AdapterBank.open(tmp_path / "pulled").records[NEAREST]
    assert sha256((tmp_path / "pulled" / record.path / repos.WEIGHTS).read_bytes()) == record.sha256
    assert lorameta("bank", "check", "pulled").code == 0


def test_an_index_that_is_not_whole_is_refused(lorameta, author, hub, published, tmp_path):
    repo = author.repo("models", "bank")
    files = repo.commits[repo.head]
    name = next(name for name in files if name.startswith("summaries"))
    whole = repo.head
    repo.commit({name: files[name][:-1] + bytes([files[name][-1] ^ 1])})
    done = lorameta("bank", "pull", published, "-o", "pulled")
    assert done.code == 2
    assert "is not the file that bank.json was written with" in done.err
    repo.commit(
        {
            name: files[name],
            "tokenizer/tokenizer.json": files["tokenizer/tokenizer.json"].replace(b'"ByteLevel"', b'"Whitespace"'),
        }
    )
    done = lorameta("bank", "pull", published, "-o", "pulled2")
    assert done.code == 2
    assert "the tokenizer is not the one" in done.err
    assert lorameta("bank", "pull", published, "-o", "pulled3", "--revision", whole).code == 0
    done = lorameta("bank", "pull", author.base, "-o", "base")
    assert f"{author.base} is no bank" in done.err
    assert not (tmp_path / "pulled" / "bank.json").exists()


def test_what_others_could_not_use_is_not_published(lorameta, author, published, tiny_bank, tmp_path):
    assert "log in with: hf auth login" in lorameta("bank", "push", "bank", f"{author.name}/x").err
    shutil.copytree(tiny_bank, tmp_path / "stacked")
    assert lorameta("bank", "stack", "stacked").code == 0
    done = lorameta("bank", "push", "stacked", f"{author.name}/x", HF_TOKEN=TOKEN)
    assert done.code == 2
    assert "--undo" in done.err
    content = json.loads((tmp_path / "bank" / "bank.json").read_bytes())
    content["base"] |= {"model": str(tmp_path / "base")}
    (tmp_path / "bank" / "bank.json").write_text(json.dumps(content))
    assert "a directory that others do not have" in lorameta("bank", "push", "bank", f"{author.name}/x").err


def test_an_adapter_is_published_with_its_card(lorameta, author, hub, rows, tiny_bank, tmp_path):
    assert lorameta("generate", rows, "-o", "out", "--bank", tiny_bank).code == 0
    name = f"{author.name}/mine"
    done = lorameta("push", "out", name, HF_TOKEN=TOKEN)
    assert done.code == 2
    assert "with --base author/name" in done.err
    done = lorameta("push", "out", name, "--base", author.base, "--json", HF_TOKEN=TOKEN)
    assert done.code == 0, done.err
    repo = author.repo("models", name)
    files = repo.commits[repo.head]
    assert done.json["revision"] == repo.head
    assert json.loads(files[repos.CONFIG])["base_model_name_or_path"] == author.base
    assert files[repos.WEIGHTS] == (tmp_path / "out" / repos.WEIGHTS).read_bytes()
    text = files["README.md"].decode()
    assert f'base_model: "{author.base}"' in text
    assert "library_name: peft" in text
    assert str(tiny_bank / "base") not in text + files[repos.CONFIG].decode()
    for file in (repos.CONFIG, repos.WEIGHTS):
        (tmp_path / "back").mkdir(exist_ok=True)
        (tmp_path / "back" / file).write_bytes(files[file])
    assert Adapter.from_pretrained(tmp_path / "back").base_model == author.base
    author.forget()
    assert lorameta("push", "out", name, "--base", author.base, HF_TOKEN=TOKEN).code == 0
    assert not [hit for hit in author.hits if hit.method == "PUT"]  # nothing is sent twice
