"""Serving the page: to 127.0.0.1 only, without sharing, statistics or anything from the network."""

from __future__ import annotations

import os
from typing import Any

from lorameta.errors import LorametaError, MissingExtraError

HOST = "127.0.0.1"
#: What the page may load and where it may send: this server alone.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; form-action 'self'; "
    "base-uri 'self'"
)
LARGEST_UPLOAD = "500mb"


def serve(bank: str = "embedded", *, port: int | None = None, browser: bool = False, wait: bool = True) -> Any:
    """Open the page.

    Parameters
    ----------
    bank : str
        The bank that adapters are mixed from.
    port : int, optional
        Of the address; the first free one from 7860 by default.
    browser : bool
        Whether to open it in the browser.
    wait : bool
        Whether to return only when it is stopped.

    Returns
    -------
    gradio.Blocks
        With ``local_url``; ``close()`` ends it.

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
    try:
        import gradio
    except ImportError as error:
        raise MissingExtraError("gradio", "ui", "The page") from error
    from lorameta.bank import AdapterBank
    from lorameta.ui.page import STYLE, build

    opened = AdapterBank.open(bank)
    page = build(opened)
    try:
        page.launch(
            server_name=HOST, server_port=port, share=False, inbrowser=browser, prevent_thread_lock=not wait,
            quiet=True, show_error=True, ssr_mode=False, mcp_server=False, run_history=False, footer_links=[],
            enable_monitoring=False, max_file_size=LARGEST_UPLOAD, app_kwargs={"middleware": _middleware()}, css=STYLE,
            theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        )  # fmt: skip
    except OSError as error:
        raise LorametaError(f"the page cannot be served: {error}; name a free port with --port") from error
    return page


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
