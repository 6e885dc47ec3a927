"""Serving the page: to 127.0.0.1 only, without sharing, statistics or anything from the network."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

from lorameta.errors import LorametaError, requires

HOST = "127.0.0.1"
#: What the page may load and where it may send: this server alone.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; form-action 'self'; "
    "base-uri 'self'"
)
LARGEST_UPLOAD = "500mb"
#: Ports that are tried, in this order, if none is named.
PORTS = range(7860, 7960)


class Server:
    """A page that is being served.

    Attributes
    ----------
    url : str
    """

    def __init__(self, app: Any, listening: socket.socket) -> None:
        import uvicorn

        self.url = f"http://{HOST}:{listening.getsockname()[1]}/"
        self._socket = listening
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.02)

    def wait(self) -> None:
        """Return when it is stopped, by :meth:`close` or by Ctrl-C."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.5)
        except KeyboardInterrupt:
            self.close()

    def close(self) -> None:
        """Stop it."""
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


def serve(bank: str | None = None, *, port: int | None = None, browser: bool = False) -> Server:
    """Open the page.

    Parameters
    ----------
    bank : str, optional
        The bank that adapters are mixed from; the default bank if it is left out.
    port : int, optional
        Of the address; the first free one from 7860 by default.
    browser : bool
        Whether to open it in the browser.

    Returns
    -------
    Server

    Raises
    ------
    MissingExtraError
        gradio is not installed.
    BankError
        There is no such bank.
    LorametaError
        The port is taken.
    """
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1")
    with requires("gradio", "ui", "The page"):
        import gradio
        from fastapi import FastAPI
    from lorameta.bank import AdapterBank
    from lorameta.ui.page import STYLE, build

    opened = AdapterBank.open(bank) if bank else AdapterBank.open()
    listening = _listen(port)
    # Not `launch`: that one asks itself for the page and offers to share it where the answer takes three seconds.
    app = gradio.mount_gradio_app(
        FastAPI(middleware=_middleware(), docs_url=None, redoc_url=None, openapi_url=None), build(opened), path="/",
        server_name=HOST, server_port=listening.getsockname()[1], footer_links=[], run_history=False, ssr_mode=False,
        enable_monitoring=False, mcp_server=False, max_file_size=LARGEST_UPLOAD, css=STYLE,
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
    )  # fmt: skip
    server = Server(app, listening)
    if browser:
        import webbrowser

        webbrowser.open(server.url)
    return server


def _listen(port: int | None) -> socket.socket:
    """Return a socket on the port, or on the first free one."""
    for one in PORTS if port is None else [port]:
        found = socket.socket()
        if os.name != "nt":  # there it would let two servers have the same port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, one))
            return found
        except OSError as error:
            found.close()
            reason = error.strerror or str(error)
    where = f"port {port}" if port is not None else f"ports {PORTS[0]} to {PORTS[-1]}"
    raise LorametaError(f"the page cannot be served on {where}: {reason}; name a free port with --port")


def _middleware() -> list[Any]:
    """Refuse requests by another name than this machine's own, and tell the browser to load nothing from elsewhere."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), Middleware(_Policy)]


class _Policy:
    """ASGI middleware that adds the policy to every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        await self.app(scope, receive, with_policy)
