"""Names of banks, the cache, the presets, and how long the Hub asks to wait: what needs no network."""

from __future__ import annotations

import email.utils
import json
import sys
from types import SimpleNamespace

import pytest

from lorameta.bank import locate as places
from lorameta.bank.hub import client
from lorameta.bank.hub.presets import PRESETS, preset
from lorameta.bank.names import unsafe_ids
from lorameta.errors import BankError, LorametaError, UsageError
from lorameta.files.shipped import embedded_path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAMETA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_a_directory_goes_before_a_name(tmp_path, cache):
    assert places.locate("embedded") == embedded_path()
    for name, folder in (("lots-of-loras", "lots-of-loras"), ("me/mine", "me--mine")):
        cached = cache / "banks" / folder
        with pytest.raises(BankError, match="lorameta bank"):
            places.locate(name)
        cached.mkdir(parents=True)
        with pytest.raises(BankError, match="lorameta bank"):  # a pull that was stopped is no bank
            places.locate(name)
        (cached / "bank.json").write_text("{}")
        assert places.locate(name) == cached
        (tmp_path / name).mkdir(parents=True)
        assert (tmp_path / places.locate(name)).resolve() == (tmp_path / name).resolve()
    assert places.locate("hub:me/mine") == cache / "banks" / "me--mine"
    assert places.locate(cache / "banks" / "me--mine" / "bank.json") == cache / "banks" / "me--mine"


@pytest.mark.parametrize("name", ["hub:../x", "hub:a/../b", "a/b/c", "../etc/x", "a--b/c", "/x/y", "-a/b", "hub:a", ""])
def test_what_is_no_id_never_becomes_a_path(name):
    assert places.hub_id(name) is None
    with pytest.raises(BankError, match="there is no bank"):
        places.locate(name or "nowhere")


def test_a_misspelt_name_is_recognised():
    with pytest.raises(BankError, match="Did you mean 'lots-of-loras'"):
        places.locate("lots-of-lora")
    with pytest.raises(UsageError, match="did you mean 'lots-of-loras'"):
        preset("lots_of_loras")


def test_the_cache_is_where_the_system_has_it(monkeypatch):
    monkeypatch.delenv("LORAMETA_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert places.cache_directory().as_posix() == "/somewhere/lorameta"


def test_lots_of_loras_is_the_bank_of_the_paper():
    assert set(PRESETS) == {"lots-of-loras"}
    found = preset("lots-of-loras")
    assert found.base_model == "mistralai/Mistral-7B-Instruct-v0.2"
    assert len(found.members) == 502
    assert not unsafe_ids([member.id for member in found.members])
    for member in found.members:
        task = member.id.split("_")[0]
        assert member.adapter == f"Lots-of-LoRAs/Mistral-7B-Instruct-v0.2-4b-r16-{task}"
        assert member.dataset == f"Lots-of-LoRAs/{member.id}"
        assert member.facts == {"task": member.id, "family": member.id.split("_")[1]}
    assert json.dumps(found.origin) == '{"preset": "lots-of-loras"}'


def test_how_long_the_hub_asks_to_wait(monkeypatch):
    now = 1_700_000_000
    monkeypatch.setattr(client, "time", SimpleNamespace(time=lambda: now))
    later = email.utils.formatdate(now + 100, usegmt=True)
    assert client.asked_pause({}) is None
    assert client.asked_pause({"retry-after": "7"}) == 7
    assert client.asked_pause({"retry-after": later}) == 100
    assert client.asked_pause({"retry-after": email.utils.formatdate(now - 100, usegmt=True)}) == 0
    assert client.asked_pause({"retry-after": "soon"}) is None
    # What is left of the Hub's own window, where nothing is left in it.
    assert client.asked_pause({"ratelimit": '"api";r=0;t=55'}) == 56
    assert client.asked_pause({"ratelimit": '"api";r=12;t=55'}) is None


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_offline_is_what_the_environment_says(monkeypatch, value):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)  # it read the variable when imported
    client.refuse_offline("something")
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(LorametaError, match="something, and this run is offline"):
        client.refuse_offline("something")


@pytest.mark.parametrize("module", ["huggingface_hub", "datasets"])
def test_without_the_extra_it_is_named(fresh, author, module):
    author.fill("opposite")
    words = ("bank", "build", "bank", "--hub-author", author.name, "--base", author.base)
    done = fresh(*words, before=f"sys.modules[{module!r}] = None")
    assert done.code == 2
    assert f'needs {module}. Install it with: pip install "lorameta[hub]"' in done.err
