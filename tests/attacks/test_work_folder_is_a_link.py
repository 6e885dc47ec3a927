"""A bank whose work folder is a link: locks and the journal were written to the place that it leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorameta.bank import AdapterBank, edit
from lorameta.bank.lock import locked
from lorameta.bank_builder.local import build
from lorameta.errors import LorametaError
from tests.attacks.conftest import needs_links

pytestmark = needs_links


def test_nothing_is_created_through_it(bank, victim, untouched):
    (bank / ".lorameta").symlink_to(victim)
    with pytest.raises(LorametaError, match="is a link"), locked(bank):
        pass
    with pytest.raises(LorametaError, match="is a link"), edit.staging(bank):
        pass
    assert untouched()
    assert AdapterBank.open(bank).check().ok  # it can be read


@pytest.mark.parametrize("part", [".lorameta", ".lorameta/build", ".lorameta/build.lock"])
def test_no_bank_is_built_through_it(tiny_bank, tmp_path, victim, untouched, part):
    out = tmp_path / "out"
    (out / part).parent.mkdir(parents=True)
    (out / part).symlink_to(victim / "private_key" if part.endswith("lock") else victim)
    with pytest.raises(LorametaError):
        build(
            out,
            tiny_bank / "adapters",
            base=str(tiny_bank / "base"),
            summaries=tiny_bank / "summaries.safetensors",
            base_name="base",
        )
    assert untouched()
    assert not Path(out / "bank.json").exists()
