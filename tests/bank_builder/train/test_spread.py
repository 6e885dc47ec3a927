"""Many tasks on many workers: every result comes, also when workers are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("joblib")

from lorameta.bank_builder.train.spread import Lost, close_workers, connected, spread
from lorameta.errors import LorametaError
from tests.bank_builder.train.spread_helpers import fail, square_or_die


def tasks(count: int, folder: Path, fates: dict[int, str] | None = None) -> list[tuple[int, str, str]]:
    (folder / "caller").write_text(str(os.getpid()))
    return [(number, (fates or {}).get(number, ""), str(folder)) for number in range(count)]


def test_one_worker_is_this_process_and_keeps_the_order(tmp_path):
    found = list(spread(square_or_die, tasks(5, tmp_path), workers=1))
    assert found == [(number, (number**2, os.getpid())) for number in range(5)]


def test_results_come_as_they_are_ready(tmp_path):
    it = iter(spread(square_or_die, tasks(4, tmp_path), workers=1))
    assert next(it)[0] == 0
    assert len(list(it)) == 3


def test_a_killed_process_takes_no_task_with_it(tmp_path):
    try:
        found = dict(spread(square_or_die, tasks(9, tmp_path, {2: "once", 5: "always"}), workers=2))
    finally:
        close_workers()
    assert sorted(found) == list(range(9))
    assert isinstance(found.pop(5), Lost)
    assert {number: value for number, (value, _) in found.items()} == {n: n**2 for n in range(9) if n != 5}
    assert os.getpid() not in {pid for _, pid in found.values()}


def test_an_error_of_the_work_is_raised(tmp_path):
    with pytest.raises(ValueError, match="no 1"):
        list(spread(fail, [1, 2], workers=1))


def test_no_scheduler_is_an_error_that_says_how_to_start_one(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("lorameta.bank_builder.train.spread.CONNECT_SECONDS", 1)
    with pytest.raises(LorametaError, match="dask scheduler"), connected("tcp://127.0.0.1:1"):
        pass


@pytest.fixture
def cluster(monkeypatch):
    """A scheduler and two workers, each a process with one thread."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


@pytest.mark.slow
def test_a_cluster_does_the_task_of_a_killed_worker_again(cluster, tmp_path):
    def kill() -> None:
        while len(list(tmp_path.glob("pid-*"))) < 2:
            time.sleep(0.05)
        os.kill(int((tmp_path / "pid-0").read_text()), signal.SIGKILL)
        time.sleep(0.2)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with connected(cluster.scheduler_address) as client:
        found = dict(spread(square_or_die, tasks(6, tmp_path, {0: "slow", 1: "slow"}), client=client))
    killer.join()
    assert {number: value for number, (value, _) in found.items()} == {n: n**2 for n in range(6)}


@pytest.mark.slow
def test_a_task_that_kills_every_worker_of_a_cluster_is_named_and_the_others_are_done(cluster, tmp_path):
    with connected(cluster.scheduler_address) as client:
        found = dict(spread(square_or_die, tasks(5, tmp_path, {1: "always"}), client=client))
    assert isinstance(found.pop(1), Lost)
    assert {number: value for number, (value, _) in found.items()} == {n: n**2 for n in (0, 2, 3, 4)}


@pytest.mark.slow
def test_a_cluster_of_one_core_does_the_work_itself(tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None, silence_logs=50
        ) as cluster,
        connected(cluster.scheduler_address) as client,
    ):
        found = dict(spread(square_or_die, tasks(3, tmp_path), client=client))
    assert os.getpid() not in {pid for _, pid in found.values()}
