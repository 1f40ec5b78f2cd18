"""Which port kept the stack from starting, and which variable changes it?

`make up` asks when Docker has failed. Standard input is what `docker compose config --format json` prints. The
arguments are the services that run, whose ports are the stack's own. It runs on the host, with any Python.
"""

import errno
import json
import socket
import sys
from typing import Any

VARIABLES = {
    4200: "PREFECT_PORT",
    9000: "MINIO_PORT",
    9001: "MINIO_CONSOLE_PORT",
    6006: "TENSORBOARD_PORT",
    9464: "METRICS_PORT",
}
REASONS = {
    errno.EADDRINUSE: "port {port} is taken by another program. Set {variable} in .env to a free port.",
    errno.EADDRNOTAVAIL: "this machine does not have the address {host}. Correct BIND_ADDRESS in .env.",
}


def problems(config: dict[str, Any], running: set[str]) -> list[str]:
    """Return a sentence for each port of a service that does not run and that this machine cannot give it."""
    found = []
    for name, service in config["services"].items():
        for port in service.get("ports", []) if name not in running else []:
            if reason := _why_not(port["host_ip"], int(port["published"])):
                variable = VARIABLES[port["target"]]
                found.append(reason.format(port=port["published"], host=port["host_ip"], variable=variable))
    return list(dict.fromkeys(found))


def _why_not(host: str, port: int) -> str | None:
    """Return why a port cannot be listened on, or None if it can or the reason is another."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            return REASONS.get(error.errno or 0)
    return None


if __name__ == "__main__":
    for line in problems(json.load(sys.stdin), set(sys.argv[1:])):
        sys.stderr.write(f"{line}\n")
