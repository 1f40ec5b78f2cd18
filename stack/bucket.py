"""How does MinIO get the app's bucket, a user who may access only this bucket, and keys for people?

The stack runs `prepare` at every start. A second run changes nothing. `add` and `remove` are for people: docs/team.md.
"""

import os
import secrets
from pathlib import Path
from typing import Any

import click
from minio import Minio, MinioAdmin
from minio.credentials.providers import AWSConfigProvider, StaticProvider

from stack.credentials import MINIO_ROOT_USER, S3_USER

HOST = "minio:9000"
SECRETS = Path("/run/secrets")
POLICY = "gan-train"
READ_POLICY = "gan-train-read"
ON_BUCKET = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
ON_OBJECTS = [
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
]
READ_BUCKET = ["s3:GetBucketLocation", "s3:ListBucket"]
READ_OBJECTS = ["s3:GetObject"]


def policy(bucket: str, on_bucket: list[str] = ON_BUCKET, on_objects: list[str] = ON_OBJECTS) -> dict[str, Any]:
    """Return the policy of a user who may access one bucket."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": on_bucket, "Resource": [f"arn:aws:s3:::{bucket}"]},
            {"Effect": "Allow", "Action": on_objects, "Resource": [f"arn:aws:s3:::{bucket}/*"]},
        ],
    }


def prepare(bucket: str, root: StaticProvider, app: AWSConfigProvider) -> None:
    """Create the bucket unless it exists. Set the app's user, key and policy, and the policy of readers."""
    client = Minio(endpoint=HOST, credentials=root, secure=False)
    if not client.bucket_exists(bucket_name=bucket):
        client.make_bucket(bucket_name=bucket)
    admin = MinioAdmin(endpoint=HOST, credentials=root, secure=False)
    user = app.retrieve()
    admin.user_add(access_key=user.access_key, secret_key=user.secret_key)
    admin.policy_add(policy_name=POLICY, policy=policy(bucket))
    admin.policy_add(policy_name=READ_POLICY, policy=policy(bucket, READ_BUCKET, READ_OBJECTS))
    admin.policy_set(policy_name=POLICY, user=user.access_key)


def check_name(name: str) -> str:
    """Return the name of a person. Raises click.BadParameter if it cannot be one."""
    if name in (S3_USER, MINIO_ROOT_USER) or not (3 <= len(name) <= 20 and name.isascii() and name.isalnum()):
        raise click.BadParameter("a name has 3 to 20 letters and digits")
    return name


def _root() -> StaticProvider:
    return StaticProvider((SECRETS / "minio/user").read_text(), (SECRETS / "minio/password").read_text())


@click.group()
def main() -> None:
    """Prepare the bucket of the stack, and give keys to people."""


@main.command("prepare")
def prepare_command() -> None:
    """Prepare the bucket that GAN_BUCKET names."""
    prepare(os.environ["GAN_BUCKET"], _root(), AWSConfigProvider(str(SECRETS / "app/credentials")))


@main.command("add")
@click.argument("name", callback=lambda _context, _param, value: check_name(value))
@click.option("--write", is_flag=True, help="The person may also train, prune and promote.")
def add_command(name: str, write: bool) -> None:
    """Make a key of the bucket for a person, or a new one in place of the old one, and print it."""
    admin = MinioAdmin(endpoint=HOST, credentials=_root(), secure=False)
    key = secrets.token_hex(16)
    admin.user_add(access_key=name, secret_key=key)
    admin.policy_set(policy_name=POLICY if write else READ_POLICY, user=name)
    click.echo(f"export AWS_ACCESS_KEY_ID={name}\nexport AWS_SECRET_ACCESS_KEY={key}")


@main.command("remove")
@click.argument("name", callback=lambda _context, _param, value: check_name(value))
def remove_command(name: str) -> None:
    """Remove the key of a person."""
    MinioAdmin(endpoint=HOST, credentials=_root(), secure=False).user_remove(access_key=name)


if __name__ == "__main__":
    main()
