"""How does a test hold one request to a store in flight, and see which requests of a process were done?"""

import re
from collections.abc import Callable
from threading import Event

from tests.support.quirk_proxy import Answer, Forward, Request

HOLD_SECONDS = 120
Wanted = Callable[[Request], bool]


class Gate:
    """A quirk that records each request with its answer, and holds the first one that is wanted until `open` is set."""

    def __init__(self, wanted: Wanted = lambda request: False) -> None:
        self.reached = Event()
        self.open = Event()
        self.answered: list[tuple[Request, int]] = []
        self._wanted = wanted

    def __call__(self, request: Request, forward: Forward) -> Answer:
        """Forward a request, now or when the gate is opened."""
        if not self.reached.is_set() and self._wanted(request):
            self.reached.set()
            self.open.wait(HOLD_SECONDS)
        answer = forward(request)
        self.answered.append((request, answer.status))
        return answer

    def writes(self, own: str, after: int = 0) -> list[str]:
        """List the writes that the store has done since a place of the record, but for those of keys with `own`."""
        return [
            f"{request.method} {request.target}: {status}"
            for request, status in self.answered[after:]
            if request.method in ("PUT", "POST", "DELETE") and status < 300 and own not in request.target
        ]


def asks(method: str, pattern: str) -> Wanted:
    """Return whether a request is one of a method, whose path ends with a pattern."""
    return lambda request: request.method == method and bool(re.search(f"{pattern}$", request.target.partition("?")[0]))
