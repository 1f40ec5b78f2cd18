"""How does the stack run Prefect's server? As `prefect server start` does, but with an address that people can open.

`prefect server start` would print 0.0.0.0, the address that it listens on in its container.
"""

import os

import click
import uvicorn
from prefect.server.api.server import create_app


def main() -> None:
    """Serve Prefect's UI, its API and its services until SIGTERM."""
    url = os.environ["PREFECT_PUBLIC_URL"]
    click.echo(f"Prefect's UI: {url}. `make credentials` shows the password.")
    uvicorn.run(create_app(final=True), host="0.0.0.0", port=4200, log_level="warning")


if __name__ == "__main__":
    main()
