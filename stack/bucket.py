"""How does MinIO get the app's bucket, and a user who may access only this bucket?

The stack runs this at every start. A second run changes nothing.
"""

import os
from pathlib import Path
from typing import Any

from minio import Minio, MinioAdmin
from minio.credentials.providers import AWSConfigProvider, StaticProvider

POLICY = "gan-train"
ON_BUCKET = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
ON_OBJECTS = [
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
]


def policy(bucket: str) -> dict[str, Any]:
    """Return the policy of a user who may access one bucket."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ON_BUCKET, "Resource": [f"arn:aws:s3:::{bucket}"]},
            {"Effect": "Allow", "Action": ON_OBJECTS, "Resource": [f"arn:aws:s3:::{bucket}/*"]},
        ],
    }


def prepare(host: str, bucket: str, root: StaticProvider, app: AWSConfigProvider) -> None:
    """Create the bucket unless it exists. Set the app's user, key and policy."""
    client = Minio(endpoint=host, credentials=root, secure=False)
    if not client.bucket_exists(bucket_name=bucket):
        client.make_bucket(bucket_name=bucket)
    admin = MinioAdmin(endpoint=host, credentials=root, secure=False)
    user = app.retrieve()
    admin.user_add(access_key=user.access_key, secret_key=user.secret_key)
    admin.policy_add(policy_name=POLICY, policy=policy(bucket))
    admin.policy_set(policy_name=POLICY, user=user.access_key)


def main() -> None:
    """Read the credentials' volumes and prepare the bucket that GAN_BUCKET names."""
    secrets = Path("/run/secrets")
    root = StaticProvider((secrets / "minio/user").read_text(), (secrets / "minio/password").read_text())
    app = AWSConfigProvider(str(secrets / "app/credentials"))
    prepare("minio:9000", os.environ["GAN_BUCKET"], root, app)


if __name__ == "__main__":
    main()
