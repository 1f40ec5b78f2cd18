"""How long does the embedded Prefect server live? As long as its standard input.

Run as `python -m flows.server_process DESCRIPTOR`, the descriptor being a listening socket. Whoever starts it holds
the other end of its standard input; the kernel closes that when the holder ends, also by SIGKILL.
"""

import os
import signal
import socket
import sys
import threading
import time

import uvicorn

GRACE_SECONDS = 6


def serve(descriptor: int) -> None:
    """Serve Prefect's API on a listening socket until standard input ends."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    config = uvicorn.Config(
        "prefect.server.api.server:create_app",
        factory=True,
        lifespan="on",
        log_level="error",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def _end_with_stdin() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through sys.stdin: its lock, held at exit, makes Python abort
    os.kill(os.getpid(), signal.SIGTERM)  # uvicorn's orderly end: what was received is written to the database
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
