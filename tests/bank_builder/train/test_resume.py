"""A run that was killed goes on: nothing is trained twice, and the bank is the same, file by file."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.bank import AdapterBank, check_directory
from lorameta.bank_builder.train import BankProgress
from lorameta.errors import LorametaError, UsageError
from lorameta.training import LoraTraining
from tests.bank_builder.train.training import NAMES, SETTINGS, content, run, trained_ids, write_tasks


def test_nothing_is_done_twice(made, tasks, base, tmp_path, monkeypatch):
    copy = shutil.copytree(made, tmp_path / "bank")
    seen = trained_ids(monkeypatch)
    found = run(tasks, base, copy)
    assert seen == []
    assert found.plan.finished == NAMES
    assert content(copy) == content(made)


class Killed(BaseException):
    """Ends a run where a signal would."""


def test_a_killed_run_goes_on_and_ends_with_the_same_bank(made, tasks, base, tmp_path, monkeypatch):
    def kill(progress: BankProgress) -> None:
        if progress.fresh:
            raise Killed

    with pytest.raises(Killed):
        run(tasks, base, tmp_path / "bank", report=kill)
    assert not (tmp_path / "bank" / "bank.json").exists()
    seen = trained_ids(monkeypatch)
    run(tasks, base, tmp_path / "bank")
    assert len(seen) == 2
    assert content(tmp_path / "bank") == content(made)


def test_killed_while_the_bank_was_written(made, tasks, base, tmp_path, monkeypatch):
    """The adapters are moved, and bank.json is not there yet."""
    copy = shutil.copytree(made, tmp_path / "bank")
    (copy / "bank.json").unlink()
    seen = trained_ids(monkeypatch)
    run(tasks, base, copy)
    assert seen == []
    assert content(copy) == content(made)


def test_a_damaged_adapter_is_trained_again(made, tasks, base, tmp_path, monkeypatch):
    copy = shutil.copytree(made, tmp_path / "bank")
    (copy / "bank.json").unlink()
    path = copy / "adapters" / "number_word" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    seen = trained_ids(monkeypatch)
    run(tasks, base, copy)
    assert seen == ["number_word"]
    bank = AdapterBank.open(copy)
    assert check_directory(copy).problems == []
    assert bank.content_hash == AdapterBank.open(made).content_hash


def test_new_rows_and_new_tasks_are_trained_and_nothing_else(made, tasks, base, tmp_path, monkeypatch):
    copy = shutil.copytree(made, tmp_path / "bank")
    folder = shutil.copytree(tasks, tmp_path / "tasks")
    with (folder / "number_word.jsonl").open("a") as file:
        file.write(json.dumps({"input": "Write 5", "output": "five"}) + "\n")
    shutil.copy(write_tasks(tmp_path / "more", ["opposite"]) / "opposite.jsonl", folder)
    (folder / "thing_colour.jsonl").unlink()
    seen = trained_ids(monkeypatch)
    run(folder, base, copy)
    assert sorted(seen) == ["number_word", "opposite"]
    before, after = AdapterBank.open(made), AdapterBank.open(copy)
    assert after.ids == ("animal_sound", "number_word", "opposite")
    assert after.records["animal_sound"].sha256 == before.records["animal_sound"].sha256
    assert after.records["number_word"].sha256 != before.records["number_word"].sha256
    assert check_directory(copy).problems == []


def test_other_settings_need_another_directory_or_force(made, tasks, base, tmp_path):
    copy = shutil.copytree(made, tmp_path / "bank")
    other = LoraTraining(**{**vars(SETTINGS), "learning_rate": 1e-2})
    with pytest.raises(UsageError, match=r"learning_rate 0\.02, now 0\.01"):
        run(tasks, base, copy, settings=other)
    assert content(copy) == content(made)
    run(tasks, base, copy, settings=other, force=True)
    assert AdapterBank.open(copy).content_hash != AdapterBank.open(made).content_hash
    assert check_directory(copy).problems == []


def test_two_runs_do_not_share_a_directory(tasks, base, tmp_path):
    errors = []

    def again(progress: BankProgress) -> None:
        if progress.fresh and not errors:
            try:
                run(tasks, base, tmp_path / "bank")
            except LorametaError as error:
                errors.append(str(error))

    run(tasks, base, tmp_path / "bank", report=again)
    assert len(errors) == 1
    assert "another run" in errors[0]


@pytest.mark.slow
def test_a_run_killed_by_a_signal_is_resumed(made, tasks, base, tmp_path):
    words = [
        sys.executable, "-m", "lorameta", "bank", "train", tasks, "--base", base, "-o", tmp_path / "bank", "--name",
        "trained", "--rank", 2, "--targets", "q_proj,v_proj", "--learning-rate", 2e-2, "--epochs", 2, "--batch-size", 8,
        "--jobs", 1, "--threads", 1,
    ]  # fmt: skip
    command = [str(word) for word in words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while process.poll() is None and not list((tmp_path / "bank" / ".lorameta" / "train").glob("facts/*.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "are there from an earlier run" in done.stderr
    assert content(tmp_path / "bank") == content(made)
