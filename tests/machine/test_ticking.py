"""A function called from a thread while a block runs."""

import threading

from lorameta.machine.ticking import ticking


def test_ticking_ends_with_its_body():
    threads, enough = [], threading.Event()

    def tick() -> None:
        threads.append(threading.current_thread())
        if len(threads) == 2:
            enough.set()

    with ticking(tick, seconds=0.001):
        assert enough.wait(timeout=60)
    assert not threads[0].is_alive()
