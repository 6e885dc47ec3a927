"""A published bank that names code or pickles as part of its base, or a base that is no part of it: not pulled."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lorameta.bank.hub.contents import is_extra
from lorameta.bank.hub.pull import pull
from lorameta.errors import BankError
from tests.attacks.conftest import tamper


class Repository:
    """A client that serves a directory as the repository of a bank, and notes what was asked for."""

    def __init__(self, root):
        self.root, self.asked = root, []

    def model(self, repo, revision=None, files=True):
        found = [path for path in self.root.rglob("*") if path.is_file()]
        siblings = [
            SimpleNamespace(rfilename=path.relative_to(self.root).as_posix(), size=path.stat().st_size)
            for path in found
        ]
        return SimpleNamespace(id=repo, sha="a" * 40, siblings=siblings)

    def download(self, repo, file, folder, *, revision=None, force=False):
        self.asked.append(file)
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((self.root / file).read_bytes())
        return target


def test_a_sound_bank_is_pulled(bank, tmp_path):
    (bank / "run.py").write_text("print('x')")
    (bank / "tokenizer").mkdir()
    (bank / "tokenizer" / "code.py").write_text("print('x')")
    client = Repository(bank)
    pull("me/bank", tmp_path / "out", client=client)
    assert not [name for name in client.asked if name.endswith(".py")]
    assert json.loads((tmp_path / "out" / "bank.json").read_bytes())["recipe"]["pulled"]["repo"] == "me/bank"


@pytest.mark.parametrize("name", ["modeling.py", "pytorch_model.bin", "weights.pkl", "run.sh", "x.so", "sub/evil.py"])
def test_code_and_pickles_are_no_part_of_a_base(bank, tmp_path, name):
    (bank / "base" / name).parent.mkdir(exist_ok=True)
    (bank / "base" / name).write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    tamper(bank, lambda content: content["base"]["sha256"].update({name: empty}))
    client = Repository(bank)
    with pytest.raises(BankError, match=r"only \.json, \.safetensors"):
        pull("me/bank", tmp_path / "out", client=client)
    assert client.asked == ["bank.json"]
    assert not (tmp_path / "out" / "bank.json").exists()


@pytest.mark.parametrize("model", ["/etc", "/", "../x", "~/x", "C:\\x", "a/b/c", "./base"])
def test_a_base_of_this_machine_is_refused(bank, tmp_path, model):
    tamper(bank, lambda content: content["base"].update(model=model, sha256={}))
    client = Repository(bank)
    with pytest.raises(BankError, match="neither in the bank nor a name on the Hub"):
        pull("me/bank", tmp_path / "out", client=client)
    assert client.asked == ["bank.json"]


@pytest.mark.parametrize("model", ["adapters/opposite", "tokenizer", ".lorameta/build", ".git"])
def test_a_base_in_the_place_of_something_else_is_refused(bank, tmp_path, model):
    tamper(bank, lambda content: content["base"].update(model=model))
    with pytest.raises(BankError, match=r"its base is in|hidden"):
        pull("me/bank", tmp_path / "out", client=Repository(bank))


def test_what_is_no_part_of_an_index_is_known():
    wanted = {"leave_one_out.json", "operators/neural-js.safetensors", "tokenizer/tokenizer.json"}
    others = {"operators/x.py", "tokenizer/x.py", "operators/a/b.safetensors", "operators/.x.safetensors", "setup.py"}
    assert {name for name in wanted | others if is_extra(name)} == wanted
