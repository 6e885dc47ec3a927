"""On a cluster the bank is the same as here, even if a worker is killed midway."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.bank_builder.train import run as run_module
from lorameta.bank_builder.train import train_bank
from lorameta.bank_builder.train.worker import Job, train_task
from lorameta.data import load_examples
from lorameta.errors import LorametaError
from lorameta.training import split_examples
from tests.bank_builder.train.training import SETTINGS, content, run, write_tasks


def test_another_base_on_the_worker_is_an_error_of_the_machine(base, tasks):
    parts = split_examples(load_examples(tasks / "animal_sound.jsonl"))
    with pytest.raises(LorametaError, match="another one than here"):
        train_task(Job("x", parts, str(base), None, "0" * 16, "base", SETTINGS, 1))
    with pytest.raises(LorametaError, match="cannot train"):
        train_task(Job("x", parts, str(base / "nowhere"), None, "1" * 16, "base", SETTINGS, 1))


@pytest.mark.slow
def test_a_cluster_of_two_one_killed_midway_makes_the_same_bank(base, tmp_path):
    """The workers are processes of their own; the run finds them by the scheduler's address."""
    distributed = pytest.importorskip("distributed")
    tasks = write_tasks(tmp_path / "tasks", count=400)
    run(tasks, base, tmp_path / "local")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as cluster:
        killed = []

        def kill() -> None:
            with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
                while not killed:
                    busy = [address for address, calls in client.processing().items() if calls]
                    if len(busy) == 2:
                        time.sleep(0.3)
                        killed.append(next(w.pid for w in cluster.workers.values() if w.worker_address == busy[0]))
                        os.kill(killed[0], signal.SIGKILL)
                    time.sleep(0.02)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        found = train_bank(
            tasks, base, tmp_path / "far", settings=SETTINGS, name="trained", dask=cluster.scheduler_address
        )
        killer.join()
    assert found.failed == {}
    assert found.plan.workers == 2
    assert len(killed) == 1
    assert content(tmp_path / "far") == content(tmp_path / "local")


@pytest.mark.slow
def test_a_cluster_without_the_base_is_refused_before_the_work(tasks, base, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    gone = shutil.copytree(base, tmp_path / "base")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as cluster:
        check = run_module.check_cluster

        def vanish(client, run):
            gone.rename(tmp_path / "elsewhere")
            check(client, run)

        monkeypatch.setattr(run_module, "check_cluster", vanish)
        with pytest.raises(LorametaError, match="these workers cannot train"):
            train_bank(tasks, gone, tmp_path / "bank", settings=SETTINGS, dask=cluster.scheduler_address)
