"""A lock or a journal that is a link to a file of the user's: opening it truncated that file (CVE-2025-68146)."""

from __future__ import annotations

import json
import time
from importlib.metadata import version

import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder.members import remove
from lorameta.errors import LorametaError
from tests.attacks.conftest import needs_links

pytestmark = needs_links


def test_the_lock_is_not_opened(bank, victim, untouched):
    (bank / ".lorameta").mkdir()
    (bank / ".lorameta" / "lock").symlink_to(victim / "private_key")
    with pytest.raises(LorametaError, match="is a link"):
        remove(AdapterBank.open(bank), ["opposite"])
    assert untouched()


def test_the_installed_filelock_does_not_follow_links_either():
    assert tuple(map(int, version("filelock").split(".")[:3])) >= (3, 20, 3)


def test_a_journal_that_is_a_link_is_not_read(bank, victim):
    (bank / ".lorameta").mkdir()
    journal = victim / "journal.json"
    journal.write_text(json.dumps({"adapters/opposite": time.time() - 1e6}))
    (bank / ".lorameta" / "retired.json").symlink_to(journal)
    remove(AdapterBank.open(bank), ["opposite"])
    assert (bank / "adapters" / "opposite").is_dir()  # its hour begins now
    assert "opposite" in journal.read_text()
