"""A bank whose staging folder is a link: the next writer removed what is behind it, as old leftovers of its own."""

from __future__ import annotations

import pytest

from lorameta.bank import AdapterBank
from lorameta.bank_builder.members import remove
from lorameta.errors import LorametaError
from tests.attacks.conftest import needs_links

pytestmark = needs_links


@pytest.mark.parametrize("part", [".lorameta/staging", ".lorameta"])
def test_nothing_behind_the_link_is_deleted(bank, victim, untouched, part):
    if part == ".lorameta":
        (victim / "staging").symlink_to(victim)
        (bank / part).symlink_to(victim)
        with pytest.raises(LorametaError, match="is a link"):
            remove(AdapterBank.open(bank), ["opposite"])
        (victim / "staging").unlink()
    else:
        (bank / part).parent.mkdir()
        (bank / part).symlink_to(victim)
        remove(AdapterBank.open(bank), ["opposite"])
        assert "opposite" not in AdapterBank.open(bank).ids
    assert untouched()


def test_a_link_in_the_staging_folder_is_not_followed(bank, victim, untouched):
    (bank / ".lorameta" / "staging").mkdir(parents=True)
    (bank / ".lorameta" / "staging" / "old").symlink_to(victim)
    remove(AdapterBank.open(bank), ["opposite"])
    assert untouched()
