"""What stands in for Prefect's server in tests of the server's process?"""

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

APP = "tests.support.stub_server:create_app"
MIGRATING_APP = "tests.support.stub_server:create_migrating_app"
FAILING_APP = "tests.support.stub_server:create_failing_app"


def create_app() -> Callable[..., Awaitable[None]]:
    """Make an ASGI application that answers `true` to every request, as Prefect's /api/health does."""
    return _app


def create_migrating_app() -> Callable[..., Awaitable[None]]:
    """Make the same after half a second's work in PREFECT_HOME that fails where two do it at once."""
    lock = Path(os.environ["PREFECT_HOME"], "migrating")
    lock.touch(exist_ok=False)
    time.sleep(0.5)
    lock.unlink()
    return _app


def create_failing_app() -> Callable[..., Awaitable[None]]:
    """Make an application whose start fails."""
    return _failing_app


async def _app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"true"})


async def _failing_app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "unable to open database file"})
