"""A pull onto a disk that is full from its n-th change on: the message is true, and the rerun finishes."""

from __future__ import annotations

import pytest

from tests.bank.faults import needs_fork
from tests.hub.test_hub_walk import content
from tests.hub.transport import TOKEN

pytestmark = [needs_fork, pytest.mark.slow]


@pytest.fixture
def published(lorameta, author) -> str:
    """The id of a bank that somebody else made and pushed."""
    author.fill()
    assert lorameta("bank", "build", "theirs", "--hub-author", author.name, "--base", author.base).code == 0
    assert lorameta("bank", "push", "theirs", f"{author.name}/bank", HF_TOKEN=TOKEN).code == 0
    return f"{author.name}/bank"


def test_a_pull_onto_a_full_disk(lorameta, fresh, published, tmp_path):
    assert lorameta("bank", "pull", published, "-o", "whole").code == 0
    for n in range(0, 400, 3):
        home = tmp_path / str(n)
        home.mkdir()
        before = (
            f"from pathlib import Path\nfrom tests.bank import faults\nfaults.fill({n}, Path({str(home / 'bank')!r}))\n"
        )
        done = fresh("bank", "pull", published, "-o", home / "bank", before=before)
        if done.code:
            assert done.code == 1, done.err
            assert "make room" in done.err, f"{n}: {done.err}"
            assert "Traceback" not in done.err
            assert not (home / "bank" / "bank.json").exists() or content(home / "bank") == content(tmp_path / "whole")
        again = lorameta("bank", "pull", published, "-o", home / "bank")
        assert again.code == 0, f"{n}: {again.err}"
        assert content(home / "bank") == content(tmp_path / "whole"), n
        if done.code == 0:
            break
    assert done.code == 0
    assert n > 6
