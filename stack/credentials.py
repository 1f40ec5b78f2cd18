"""Which credentials does the stack use, which service may read which, and which does a person need?

They are created once, on a volume that only this one-shot service sees. Each service gets its own credentials on a
volume of its own. If such a volume is lost, it is filled again with the same credentials.
"""

import base64
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

import click

from gan.errors import GanError
from gan.files import atomic_write

ROOT = Path("/run/secrets")
POSTGRES_USER = "prefect"
MINIO_ROOT_USER = "minio-root"
S3_USER = "gan-train"
PREFECT_USER = "admin"
ADDRESSES = ("PREFECT_PUBLIC_URL", "S3_PUBLIC_ENDPOINT_URL")  # for people and browsers
EVERY_INTERFACE = ("0.0.0.0", "::")
PRIVATE = 0o400
YEAR_2100 = 4_102_444_800
SHARED = 0o444  # Postgres' user id is not known here, and no other service mounts its volume


@dataclass(frozen=True, repr=False)
class Credentials:
    """Hold every secret of the stack. Secrets are 32 hexadecimal digits, which never need quoting."""

    postgres_password: str
    minio_root_password: str
    s3_secret_key: str
    prefect_password: str

    @property
    def prefect_auth(self) -> str:
        """Return Prefect's auth string. Its UI asks for the same string."""
        return f"{PREFECT_USER}:{self.prefect_password}"

    @property
    def minio_metrics_token(self) -> str:
        """Return the bearer token with which Prometheus reads MinIO's metrics: a JWT signed with the root password."""
        claims: tuple[dict[str, object], ...] = (
            {"alg": "HS512", "typ": "JWT"},
            {"exp": YEAR_2100, "iss": "prometheus", "sub": MINIO_ROOT_USER},
        )
        signed = ".".join(_base64(json.dumps(part).encode()) for part in claims)
        return f"{signed}.{_base64(hmac.digest(self.minio_root_password.encode(), signed.encode(), 'sha512'))}"

    def files(self) -> dict[str, tuple[str, int]]:
        """Return the files of each service, as content and mode by path. A path begins with the volume's name."""
        database = f"postgresql+asyncpg://{POSTGRES_USER}:{self.postgres_password}@postgres:5432/prefect"
        return {
            "postgres/password": (self.postgres_password, SHARED),
            "minio/user": (MINIO_ROOT_USER, PRIVATE),
            "minio/password": (self.minio_root_password, PRIVATE),
            "app/credentials": (
                f"[default]\naws_access_key_id = {S3_USER}\naws_secret_access_key = {self.s3_secret_key}\n",
                PRIVATE,
            ),
            "server/profiles.toml": (
                profile(
                    PREFECT_SERVER_API_AUTH_STRING=self.prefect_auth, PREFECT_SERVER_DATABASE_CONNECTION_URL=database
                ),
                PRIVATE,
            ),
            "client/profiles.toml": (
                profile(PREFECT_API_URL="http://prefect-server:4200/api", PREFECT_API_AUTH_STRING=self.prefect_auth),
                PRIVATE,
            ),
        }


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def profile(**settings: str) -> str:
    """Return a file of Prefect profiles with one active profile."""
    lines = [f'{name} = "{value}"' for name, value in settings.items()]
    return "\n".join(['active = "stack"', "[profiles.stack]", *lines, ""])


def make(root: Path) -> None:
    """Create the credentials unless they exist, and write each service's files that differ.

    Raises:
        StorageError: a volume cannot be written.
    """
    source = root / "all" / "credentials.json"
    if not source.exists():
        made = Credentials(*(secrets.token_hex(16) for _ in fields(Credentials)))
        write(source, json.dumps(asdict(made)), PRIVATE)
    for name, (content, mode) in read(root).files().items():
        write(root / name, content, mode)


def read(root: Path) -> Credentials:
    """Read the credentials.

    Raises:
        GanError: there are no credentials yet.
    """
    source = root / "all" / "credentials.json"
    if not source.exists():
        raise GanError(f"{source}: no credentials yet. Start the stack first: docker compose up -d --wait")
    return Credentials(**json.loads(source.read_text()))


def write(path: Path, content: str, mode: int) -> None:
    """Write a file if its content differs. Readers see the old or the new content, never a part."""
    if not path.exists() or path.read_text() != content:
        atomic_write(path, content.encode())  # until chmod, the mode of the volume's folder protects it
    path.chmod(mode)


def check_addresses(addresses: dict[str, str]) -> None:
    """Check the addresses of the stack that people are told, given by the variable that holds each.

    Raises:
        GanError: a browser cannot open one.
    """
    for name, address in addresses.items():
        host = _host(address)
        if host in EVERY_INTERFACE:
            raise GanError(
                f"BIND_ADDRESS is {host}: every address of this machine, but none that a browser can open. "
                "Set PUBLIC_HOST in .env to the name or the address of this machine."
            )
        if host is None:
            raise GanError(f"{name} is {address!r}. Set it in .env to an address such as http://HOST:PORT.")


def _host(address: str) -> str | None:
    """Return the host of a web address, or None if it is not one."""
    try:
        parts = urlsplit(address)
    except ValueError:  # a bracket left open
        return None
    return (parts.hostname or None) if parts.scheme in ("http", "https") else None


def describe(known: Credentials, prefect_url: str, s3_url: str, region: str) -> str:
    """Return what a person needs, as lines that a shell on the host can read."""
    return f"""\
# Prefect's UI at {prefect_url} asks for: {known.prefect_auth}
export PREFECT_API_URL={prefect_url}/api
export PREFECT_API_AUTH_STRING={known.prefect_auth}

# The store, for gan and every S3 client
export AWS_ENDPOINT_URL_S3={s3_url}
export AWS_ACCESS_KEY_ID={S3_USER}
export AWS_SECRET_ACCESS_KEY={known.s3_secret_key}
export AWS_DEFAULT_REGION={region}

# MinIO's console: {MINIO_ROOT_USER} {known.minio_root_password}
# MinIO's metrics, for Prometheus: bearer token {known.minio_metrics_token}
# PostgreSQL (not published): {POSTGRES_USER} {known.postgres_password}"""


@click.group()
@click.option("--root", type=click.Path(path_type=Path), default=ROOT, show_default=True, help="Where the volumes are.")
@click.pass_context
def main(context: click.Context, root: Path) -> None:
    """Make or show the stack's credentials."""
    context.obj = root


@main.command("make")
@click.pass_obj
def make_command(root: Path) -> None:
    """Make what is missing; print nothing."""
    try:
        check_addresses({name: os.environ[name] for name in ADDRESSES if name in os.environ})
    except GanError as error:
        raise click.ClickException(str(error)) from error
    make(root)


@main.command("show")
@click.pass_obj
def show_command(root: Path) -> None:
    """Print every credential."""
    try:
        known = read(root)
    except GanError as error:
        raise click.ClickException(str(error)) from error
    addresses = (os.environ[name] for name in (*ADDRESSES, "AWS_DEFAULT_REGION"))
    click.echo(describe(known, *addresses))


if __name__ == "__main__":
    main()
