"""An adapter whose card is a link to a private file: `push` published that file, `bank add` copied it."""

from __future__ import annotations

import os
import shutil
import stat

import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder.hub.push import push_adapter, push_bank
from lorameta.bank_builder.members import add
from lorameta.errors import BankError
from lorameta.files.links import file_of
from tests.attacks.conftest import needs_links

pytestmark = needs_links


class Refusing:
    """A client that must not be asked."""

    def ask(self, *_: object, **__: object) -> None:
        raise AssertionError("something was sent")


@pytest.fixture
def adapter(bank, victim, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(bank / "adapters" / "opposite", folder)
    (folder / "README.md").symlink_to(victim / "private_key")
    return folder


def test_it_is_not_published(adapter):
    with pytest.raises(BankError, match="is a link to"):
        push_adapter(adapter, "me/adapter", base="me/base", client=Refusing())


@pytest.mark.parametrize("name", ["tokenizer/tokenizer.json", "operators/neural-js.safetensors", "leave_one_out.json"])
def test_no_file_of_a_bank_is_published_through_a_link(bank, victim, name):
    (bank / name).parent.mkdir(exist_ok=True)
    (bank / name).symlink_to(victim / "private_key")
    with pytest.raises(BankError, match="is a link"):
        push_bank(AdapterBank.open(bank), "me/bank", client=Refusing())


def test_it_is_not_copied_into_a_bank(adapter, bank):
    with pytest.raises(BankError, match="is a link to"):
        add(AdapterBank.open(bank), adapter, summary=bank / "summaries.safetensors", id="opposite", replacing=True)
    assert not list((bank / "adapters").rglob("README.md"))


def test_a_copy_keeps_the_umask(adapter, bank):
    (adapter / "README.md").unlink()
    (adapter / "README.md").write_text("my notes")
    (adapter / "README.md").chmod(0o600)
    before = os.umask(0o077)
    try:
        add(AdapterBank.open(bank), adapter, summary=bank / "summaries.safetensors", id="opposite", replacing=True)
    finally:
        os.umask(before)
    place = bank / AdapterBank.open(bank).records["opposite"].path
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}
    assert len(list(place.iterdir())) == 3


def test_links_inside_the_hubs_own_cache_are_followed(bank, tmp_path, victim):
    repo = tmp_path / "models--a--b"
    snapshot, blobs = repo / "snapshots" / ("c" * 40), repo / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(bank / "adapters" / "opposite" / name, blobs / ("d" * 39 + str(len(name) % 10)))
        (snapshot / name).symlink_to(f"../../blobs/{'d' * 39}{len(name) % 10}")
    add(AdapterBank.open(bank), snapshot, summary=bank / "summaries.safetensors", id="opposite", replacing=True)
    assert AdapterBank.open(bank).check().ok
    shutil.rmtree(blobs)
    blobs.symlink_to(victim)  # a cache that a stranger made
    (victim / ("e" * 40)).write_text("secret")
    (snapshot / "README.md").symlink_to(f"../../blobs/{'e' * 40}")
    with pytest.raises(BankError, match="is a link to"):
        file_of(snapshot, "README.md")
