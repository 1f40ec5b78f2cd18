"""What stands in for Prefect's server where only the life of its process is tested?"""

from collections.abc import Awaitable, Callable
from typing import Any

APP = "tests.support.stub_server:create_app"


def create_app() -> Callable[..., Awaitable[None]]:
    """Make an ASGI application that answers `true` to every request, as Prefect's /api/health does."""
    return _app


async def _app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"true"})
