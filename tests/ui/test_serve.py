"""The page is for this machine alone: its address, its names, and what its answers tell the browser."""

from __future__ import annotations

import http.client
import socket

import pytest

pytest.importorskip("gradio")

from lorameta.errors import LorametaError
from lorameta.ui import serve


@pytest.fixture(scope="module")
def server(tiny_bank):
    made = serve(str(tiny_bank))
    yield made
    made.close()


def get(server, host: str):
    connection = http.client.HTTPConnection(server.url.split("/")[2], timeout=60)
    connection.request("GET", "/", headers={"Host": host})
    return connection.getresponse()


def test_only_this_machine_is_answered_and_nothing_else_may_be_loaded(server):
    assert server.url.startswith("http://127.0.0.1:")
    answer = get(server, server.url.split("/")[2])
    assert answer.status == 200
    policy = answer.getheader("content-security-policy")
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy
    assert get(server, "rebound.example").status == 400


def test_a_port_that_is_taken_is_named(server, tiny_bank):
    port = int(server.url.split(":")[2].strip("/"))
    with pytest.raises(LorametaError, match=f"port {port}.*--port"):
        serve(str(tiny_bank), port=port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]
    second = serve(str(tiny_bank), port=other)
    assert second.url.endswith(f":{other}/")
    second.close()
