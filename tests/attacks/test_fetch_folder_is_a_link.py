"""A bank whose fetch folder is a link, with an adapter called like a directory of the user's: it was deleted."""

from __future__ import annotations

import pytest

from lorameta.bank import AdapterBank
from lorameta.errors import LorametaError
from tests.attacks.conftest import needs_links, tamper

pytestmark = needs_links


def test_nothing_behind_the_link_is_deleted(bank, victim, untouched, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def change(content):
        content["format"] = 2
        here, away = content["adapters"][:2]
        for record in (here, away):
            record["hub"] = {"repo": "a/b", "revision": "0" * 40, "file": "adapter_model.safetensors"}
        here["id"], away["path"] = "Documents", "adapters/away"

    tamper(bank, change)
    (bank / ".lorameta").mkdir()
    (bank / ".lorameta" / "fetch").symlink_to(victim)
    opened = AdapterBank.open(bank)
    with pytest.raises(LorametaError, match="offline"):
        opened.fetch()
    assert untouched()
