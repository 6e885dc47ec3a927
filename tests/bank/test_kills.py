"""Every verb that writes, killed at each of its changes, and on a disk that is full from each of them on."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank, edit
from lorameta.bank.sharding.stack import stack
from lorameta.bank.sharding.unstack import unstack
from lorameta.bank_builder.local import build
from lorameta.bank_builder.members import add, remove
from lorameta.errors import LorametaError
from tests.bank.editing import make_newcomer, summary_for
from tests.bank.faults import needs_fork, survives

pytestmark = [needs_fork, pytest.mark.slow]
HOURS = 10_000.0


def _add(root: Path, folder: Path) -> object:
    newcomer = folder / "newcomer"
    if not newcomer.exists():
        make_newcomer(folder, "newcomer", 9)
    return add(AdapterBank.open(root), newcomer, summary=summary_for(root, "newcomer"))


def _build(root: Path, folder: Path) -> object:
    source = folder / "source"
    out = root / "built"
    return build(
        out, source / "adapters", base=str(source / "base"), summaries=source / "summaries.safetensors",
        base_name="base", copy_base=True,
    )  # fmt: skip


def _save(root: Path, folder: Path) -> object:
    return Adapter.from_pretrained(folder / "source" / "adapters" / "opposite").save_pretrained(root / "out")


VERBS: dict[str, Callable[[Path, Path], object]] = {
    "add": _add,
    "remove": lambda root, folder: remove(AdapterBank.open(root), ["opposite"]),
    "stack": lambda root, folder: stack(root),
    "unstack": lambda root, folder: unstack(root),
    "build": _build,
    "save": _save,
}


def age(folder: Path) -> None:
    """Make everything hours older, the journal's entries as well."""
    import json

    journal = folder / ".lorameta" / "retired.json"
    if journal.is_file():
        journal.write_text(json.dumps({path: since - HOURS for path, since in json.loads(journal.read_text()).items()}))
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - HOURS,) * 2)


def seen(root: Path) -> list[tuple[str, bytes]]:
    """What a reader gets: the adapters of the bank and, where they are, those of the output and of the new bank."""
    found = [(name, AdapterBank.open(root)[name].modules) for name in AdapterBank.open(root)]
    if (root / "built" / "bank.json").exists():
        found += [
            (f"built {name}", AdapterBank.open(root / "built")[name].modules)
            for name in AdapterBank.open(root / "built")
        ]
    if (root / "out").exists():
        found.append(("out", Adapter.from_pretrained(root / "out").modules))
    return [(name, b"".join(pair.B.tobytes() + pair.A.tobytes() for pair in pairs.values())) for name, pairs in found]


def rubbish(root: Path) -> list[str]:
    """What no reader needs: temporary files, what waits in the work folder, weights that are there twice."""
    found = [path for path in root.rglob("*") if path.name.endswith((".tmp", ".old"))]
    for bank in (root, root / "built"):
        work = bank / ".lorameta"
        found += [path for name in ("staging", "build") for path in (work / name).rglob("*")]
        if (bank / "bank.json").exists():
            manifest = AdapterBank.open(bank).manifest
            named = {record.path for record in manifest.adapters}
            found += [path for path in (bank / "adapters").iterdir() if f"adapters/{path.name}" not in named]
            found += [path for path in bank.glob("summaries*") if path.name != manifest.summaries["file"]]
            found += [path for path in bank.glob("shards/*") if f"shards/{path.name}" not in manifest.shards]
    return sorted(path.relative_to(root).as_posix() for path in found)


@pytest.mark.parametrize("full", [False, True], ids=["killed", "full disk"])
@pytest.mark.parametrize("verb", VERBS)
def test_old_or_new_and_nothing_left(tiny_bank, tmp_path, verb, full):
    source = tmp_path / "source"
    shutil.copytree(tiny_bank, source)
    start = tmp_path / "start"
    shutil.copytree(tiny_bank, start)
    if verb == "unstack":
        stack(start)
    if verb == "save":
        Adapter.from_pretrained(source / "adapters" / "number_word").save_pretrained(start / "out")
    root = tmp_path / "bank"
    shutil.copytree(start, root)
    old = seen(root)
    VERBS[verb](root, tmp_path)
    new = seen(root)
    for n in range(300):
        shutil.rmtree(root)
        shutil.copytree(start, root)
        ended = survives(n, lambda: VERBS[verb](root, tmp_path), root, full=full)
        assert seen(root) in (old, new), n
        age(root)
        done = verb in ("add", "remove", "build") and seen(root) == new  # whoever adds twice is told so
        with contextlib.suppress(LorametaError) if done else contextlib.nullcontext():
            VERBS[verb](root, tmp_path)  # the next run of the same verb finds the work done, or does it
        assert seen(root) == new, n
        age(root)
        edit.update(root, lambda manifest: replace(manifest, name="later"))
        if (root / "built" / "bank.json").exists():
            edit.update(root / "built", lambda manifest: replace(manifest, name="later"))
        assert rubbish(root) == [], n
        if ended:
            break
    assert ended
    assert n > 4
    print(f"{verb}: {n} {'full disks' if full else 'kills'}", file=sys.__stderr__)
