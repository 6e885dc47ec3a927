"""A function called from a thread while a block runs."""

import time

from lorameta.machine.ticking import ticking


def test_ticking_ends_with_its_body():
    calls = []
    with ticking(lambda: calls.append(1), seconds=0.01):
        time.sleep(0.1)
    seen = len(calls)
    assert seen >= 2
    time.sleep(0.05)
    assert len(calls) == seen
