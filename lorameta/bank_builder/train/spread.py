"""Many tasks on many workers, through joblib: processes of this machine, or those of a dask cluster.

A worker that dies takes nothing with it. Dask gives its task to another one by itself; where processes of this
machine are concerned, whatever was in work is done again at the end, one task at a time, so that a task which is too
large for the memory is known by its name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lorameta.errors import LorametaError, requires

CONNECT_SECONDS = 15


@dataclass(frozen=True)
class Lost:
    """In place of a result: the worker ended while it had this task alone, and why."""

    why: str


def spread(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    *,
    workers: int = 1,
    threads: int = 1,
    client: Any = None,
) -> Iterator[tuple[int, Any]]:
    """Call a function on every task, and yield each result as soon as it is there.

    Parameters
    ----------
    function : callable
        Of a module, so that workers find it.
    tasks : sequence
        Started in this order.
    workers : int
        1: in this process. More: as many processes (loky). Without meaning for a cluster, which knows how many it has.
    threads : int
        Of the numerical libraries in each process.
    client : distributed.Client, optional
        Of the cluster that is to do it.

    Yields
    ------
    int, object
        Index of the task, and its result; a :class:`Lost` if its worker was killed.

    Raises
    ------
    LorametaError
        The cluster is gone. What `function` raises ends the run, and is raised.
    """
    import joblib

    def parallel(indices: Sequence[int], begun: set[int]) -> Iterator[tuple[int, Any]]:
        def feed() -> Iterator[Any]:
            for index in indices:
                begun.add(index)
                yield joblib.delayed(_call)(function, index, tasks[index])

        if client is not None:
            engine = joblib.parallel_config(backend=_dask_backend(client))
        elif workers > 1:
            engine = joblib.parallel_config(backend="loky", n_jobs=workers, inner_max_num_threads=threads)
        else:
            engine = joblib.parallel_config(backend="sequential", n_jobs=1)
        with warnings.catch_warnings(), engine:
            # loky replaces a worker whose memory has grown, as it does when it loads the base, and says so
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
            found = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")(feed())
            try:
                yield from found
            except RuntimeError as error:
                if client is not None and client.status != "running":
                    raise LorametaError(f"the connection to the dask cluster was lost: {error}") from error
                raise

    waiting, suspects = list(range(len(tasks))), list[int]()
    while waiting:
        begun: set[int] = set()
        done: set[int] = set()
        try:
            for index, result in parallel(waiting, begun):
                done.add(index)
                yield index, result
            break
        except _lost() as error:
            suspects += [index for index in waiting if index in begun - done]
            waiting = [index for index in waiting if index not in begun]
            if not begun - done:
                raise LorametaError(f"the workers end before they begin: {error}") from error
    for index in suspects:
        try:
            yield from parallel([index], set())
        except _lost() as error:
            yield index, Lost(str(error).strip().split("\n")[0])


def _call(function: Callable[[Any], Any], index: int, task: Any) -> tuple[int, Any]:
    return index, function(task)


def _lost() -> tuple[type[BaseException], ...]:
    """Return what says that a worker ended with its task."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        from distributed.scheduler import KilledWorker
    except ImportError:
        return (TerminatedWorkerError,)
    return TerminatedWorkerError, KilledWorker


def _dask_backend(client: Any) -> Any:
    """joblib's backend for dask, mended in two places.

    By itself it waits for ever for a task whose worker is killed too often, and joblib works in the calling process
    when a cluster has a single core, which may be all that is left of it.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, super().effective_n_jobs(n_jobs))

        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)

            def failed(done: Any) -> None:
                if (error := done.exception()) is not None and callback is not None:
                    callback(error)

            future.add_done_callback(failed)
            return future

    return Backend(client=client, wait_for_workers_timeout=CONNECT_SECONDS)


@contextmanager
def connected(address: str, purpose: str = "--dask") -> Iterator[Any]:
    """A client of the cluster whose scheduler is at `address`.

    Raises
    ------
    LorametaError
        There is no scheduler, or it has no workers.
    MissingExtraError
        distributed is not installed.
    """
    with requires("distributed", "dask", purpose):
        from distributed import Client
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise LorametaError(
            f"there is no dask scheduler at {address} ({error}); start one with: dask scheduler, and workers with: "
            "dask worker ADDRESS --nworkers N --nthreads T"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise LorametaError(
                f"the dask scheduler at {address} has no workers; start some with: "
                f"dask worker {address} --nworkers N --nthreads T"
            ) from error
        yield client


def close_workers() -> None:
    """End idle processes of this machine: they hold the base in memory."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)
