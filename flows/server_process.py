"""How long does the embedded server live? As long as its standard input is open.

Run it as `python -m flows.server_process DESCRIPTOR APP`. DESCRIPTOR is the number of a listening socket, APP names a
function that makes an ASGI application. The command that starts this process holds the other end of its standard
input. The kernel closes that end when the command ends, also after SIGKILL.
"""

import os
import signal
import socket
import sys
import threading
import time

import uvicorn

GRACE_SECONDS = 6  # from the end of standard input to the end of the process


def serve(descriptor: int, app: str) -> None:
    """Serve an application, given as MODULE:FACTORY, on a listening socket until standard input ends."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    config = uvicorn.Config(
        app,
        factory=True,
        lifespan="on",
        log_level="error",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def _end_with_stdin() -> None:
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read(): it holds a lock that makes Python abort at exit
    os.kill(os.getpid(), signal.SIGTERM)  # uvicorn then finishes its requests, so nothing received is lost
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
