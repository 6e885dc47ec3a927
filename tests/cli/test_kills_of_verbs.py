"""The command line's writing verbs, killed at changes of the disk, and on a disk that is full from each of them on.

`tests/bank/test_kills.py` kills the functions that change a bank at every change; here are the verbs that users type:
what is read afterwards is the old output or the new one, the same command then gives the new one, and nothing else is
left. Model-running verbs have the miniature base.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("gguf")

from lorameta.bank import AdapterBank
from lorameta.cli import common, main
from lorameta.errors import LorametaError
from tests.bank.faults import needs_fork, survives
from tests.bank.test_kills import age
from tests.conftest import task_rows
from tests.fuzz.bank import write

pytestmark = [needs_fork, pytest.mark.slow]
#: Kills of a verb at most: of those with more changes, that many spread over all of them.
KILLS = int(os.environ.get("LORAMETA_KILLS", "12"))
SHORT = ["--steps", 4, "--batch-size", 8, "--learning-rate", 0.02, "--precision", "float32", "--threads", 1]
SHORT += ["--save-steps", 2, "--force"]
TRAIN = ["--rank", 2, "--targets", "q_proj", "--learning-rate", 2e-2, "--epochs", 1, "--batch-size", 8, "--jobs", 1]

#: Verb → its words; BANK is the miniature, SMALL one without sentences, OUT what is written. All below one folder.
VERBS: dict[str, list[object]] = {
    "generate": ["generate", "ROWS", "-o", "OUT", "--bank", "BANK", "--operator", "normalized", "--force"],
    "export gguf": ["export", "ADAPTER", "--format", "gguf", "-o", "OUT.gguf", "--base", "BASE", "--force"],
    "export merged": ["export", "ADAPTER", "--format", "merged", "-o", "OUT", "--base", "BASE", "--shard-size", "60kB",
                      "--force"],
    "refine": ["refine", "ADAPTER", "-d", "ROWS", "-o", "OUT", "--base", "BASE", *SHORT],
    "finetune": ["finetune", "-d", "ROWS", "-o", "OUT", "--base", "BASE", "--rank", 2, *SHORT],
    "fit": ["fit", "ROWS", "--base", "BASE", "-o", "OUT", "--where", "block", "--rank", 2, "--force"],
    "bank train": ["bank", "train", "TASKS", "--base", "BASE", "-o", "OUT", *TRAIN, "--score-rows", 0],
    "bank build": ["bank", "build", "OUT", "--adapters", "SMALL/adapters", "--datasets", "DATASETS", "--base",
                   "SMALL/base", "--copy-base", "--base-name", "base"],
    "bank add": ["bank", "add", "SMALL", "NEWCOMER", "--data", "ROWS", "--family", "f"],
    "bank remove": ["bank", "remove", "SMALL", "moo"],
    "bank stack": ["bank", "stack", "SMALL"],
    "bank fit": ["bank", "fit", "BANK", "-d", "js", "--width", 2],
}  # fmt: skip
#: Verbs that refuse to do again what is done.
DONE = ("bank add", "bank remove", "bank build", "bank stack")


def command(words: list[object]) -> None:
    """Run it in this process; LorametaError with what it printed if it fails."""
    import io

    said = io.StringIO()
    common.debugging = False
    sys.argv = ["lorameta", *map(str, words)]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
    if code:
        raise LorametaError(said.getvalue())


def spelled(words: list[object], root: Path) -> list[object]:
    def path(word: object) -> object:
        head, slash, rest = str(word).partition("/")
        name, dot, ending = head.partition(".")
        known = {"BANK": "bank", "SMALL": "small", "OUT": "out", "ROWS": "rows.jsonl", "TASKS": "tasks",
                 "ADAPTER": "given", "BASE": "bank/base", "DATASETS": "datasets", "NEWCOMER": "newcomer"}  # fmt: skip
        return root / f"{known[name]}{dot}{ending}{slash}{rest}" if isinstance(word, str) and name in known else word

    return [path(word) for word in words]


@pytest.fixture
def start(tiny_bank, tmp_path) -> Path:
    """Everything that the verbs read, and an old output where one may be replaced."""
    root = tmp_path / "start"
    shutil.copytree(tiny_bank, root / "bank")
    write(root / "small")
    shutil.copytree(root / "small" / "adapters" / "moo", root / "newcomer")
    shutil.copytree(tiny_bank / "adapters" / "opposite", root / "given")
    rows = [json.dumps(row) for row in task_rows("animal_sound", 30)]
    (root / "rows.jsonl").write_text("\n".join(rows))
    for folder, names in (("tasks", ["animal_sound", "number_word"]), ("datasets", ["bark", "moo", "opposite"])):
        (root / folder).mkdir()
        for name in names:
            (root / folder / f"{name}.jsonl").write_text("\n".join(rows))
    return root


def files(root: Path) -> dict[str, str]:
    """All files that a user sees, and hidden ones but the locks and the journal of what waits to be deleted."""
    kept = {".lorameta/lock", ".lorameta/retired.json", ".lorameta/build.lock", ".lorameta/train.lock"}
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not any(name.endswith(one) for one in kept):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def seen(root: Path, *, bank_is_made: bool) -> list[object]:
    """What a reader gets of the banks and of the output; raises if one of them cannot be read.

    A bank that is being made is none before there is its bank.json.
    """
    made = (root / "out" / "bank.json").exists() if bank_is_made else (root / "out").exists()
    found: list[object] = [made, (root / "out.gguf").exists()]
    for name in ("bank", "small", "out"):
        if (root / name / "bank.json").exists():
            bank = AdapterBank.open(root / name)
            found.append([(one, {m: (p.B.tobytes(), p.A.tobytes()) for m, p in bank[one].modules.items()})
                          for one in bank])  # fmt: skip
            found.append(sorted(bank.manifest.shards))
            operators = sorted((root / name / "operators").glob("[!.]*"))
            found.append([(path.name, path.read_bytes()) for path in operators])
    if made and not bank_is_made:
        found.append({name: digest for name, digest in files(root / "out").items() if name.endswith(".safetensors")})
    if (root / "out.gguf").exists():
        import gguf

        found.append([(one.name, one.data.tobytes()) for one in gguf.GGUFReader(root / "out.gguf").tensors])
    return found


def moments(total: int) -> Iterator[int]:
    """At most KILLS of the changes, the first and the last among them."""
    count = min(KILLS, total)
    yield from sorted({round(i * (total - 1) / max(1, count - 1)) for i in range(count)})


@pytest.mark.parametrize("full", [False, True], ids=["killed", "full disk"])
@pytest.mark.parametrize("verb", VERBS)
def test_old_or_new_and_nothing_left(start, tmp_path, verb, full):
    root = tmp_path / "root"
    words, made = spelled(VERBS[verb], root), verb in ("bank build", "bank train")

    def action() -> None:
        command(words)

    shutil.copytree(start, root)
    old = seen(root, bank_is_made=made)
    # How many changes there are: the verb in a process that counts them and is not stopped.
    total = changes(action, root, full=full)
    new, clean = seen(root, bank_is_made=made), files(root)
    assert new != old
    for n in moments(total):
        shutil.rmtree(root)
        shutil.copytree(start, root)
        ended = survives(n, action, root, full=full)  # a full disk that only keeps it from sweeping stops nothing
        now = seen(root, bank_is_made=made)
        assert now == new if ended else now in (old, new), n
        assert full or not ended
        age(root)
        done = now == new and verb in DONE
        assert finishes(action) or done, n
        assert seen(root, bank_is_made=made) == new, n
        age(root)
        left = set(files(root)) - set(clean)
        left = {name for name in left if "/adapters/" not in name and "summaries" not in name}  # told of by the journal
        assert not left, n
    print(f"{verb}: {len(list(moments(total)))} of {total} {'full disks' if full else 'kills'}", file=sys.__stderr__)


def finishes(action: Callable[[], object]) -> bool:
    """Run an action to its end in a process of its own: PyTorch's threads in this one would not be in later forks."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.__stderr__)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def changes(action: Callable[[], object], root: Path, *, full: bool) -> int:
    """Count the changes of an action in this process's child, which does its work to the end."""
    from tests.bank import faults

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def add() -> None:
            nonlocal count
            count += 1

        try:
            faults.count_changes(-1, root.resolve(), add, {"os.mkdir", "os.link"} if full else faults.CHANGES)
            action()
            os.write(writing, str(count).encode())
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.__stderr__)
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return int(said)
