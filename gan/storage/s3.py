"""How does a bucket, on any storage that speaks S3, keep the files of runs?"""

import hashlib
import itertools
import logging
import mimetypes
import os
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from gan.errors import ChecksumError, StorageError
from gan.files import CHUNK
from gan.storage.base import ObjectInfo, Versioned, check_key, checked
from gan.storage.s3_errors import BOTO_ERRORS, Place, code_of, masked, storage_error

PART_BYTES = 64 << 20  # a larger file goes in parts of this size, and two of them are in memory at a time
CONNECT_SECONDS = 5
ANSWER_SECONDS = 30  # between two pieces of an answer
TRIES = 4  # of a request, by boto3's standard rules; and of an answer that breaks off, from where it broke
CONFLICT_TRIES = 5
MAX_LINK_SECONDS = 7 * 24 * 3600  # S3 signs no link for longer
SHA256 = "sha256"  # metadata of every object of ours: hex, of its whole content
BROKEN_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
NOT_THERE = ("NoSuchKey", "404")
BEATEN = ("PreconditionFailed", "412", *NOT_THERE)

IGNORE_ENDPOINT: dict[str, Any] = {"ignore_configured_endpoint_urls": True}  # unknown to boto3's types

log = logging.getLogger(__name__)


class S3Store:
    """A store in a bucket: a key is an object's, below a prefix. Endpoint and credentials are boto3's to find.

    Each object carries the SHA-256 of its content; the server checks it when it comes, we do when it comes back.
    """

    def __init__(self, bucket: str, prefix: str = "", *, part_bytes: int = PART_BYTES) -> None:
        """Ask for nothing yet. Raises StorageError when boto3's settings make no sense."""
        if prefix:
            check_key(prefix, f"s3://{bucket}")
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._part_bytes = part_bytes
        try:
            session = boto3.session.Session()
            self._client = session.client("s3", config=_config(session))
        except BOTO_ERRORS as error:
            raise storage_error(error, Place(bucket, self._root, "no endpoint yet"), "reached") from error
        except ValueError as error:  # botocore's, of an endpoint that is no URL
            raise StorageError(
                f"{self.address} cannot be reached: {masked(str(error))}. Correct AWS_ENDPOINT_URL_S3, or the "
                "profile's endpoint_url: http(s)://HOST[:PORT]."
            ) from error

    @property
    def address(self) -> str:
        """Return s3://BUCKET[/PREFIX]."""
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    def put(self, key: str, path: Path, sha256: str) -> None:
        """Send a file, in parts if it is large, unless an object with its SHA-256 is there."""
        name = self._name(key)
        with self._explained(key, "stored"):
            if self._holds(name, sha256):
                return
            parts = _parts(path, sha256, self._part_bytes)
            first, second = next(parts, b""), next(parts, None)
            if second is None:
                self._client.put_object(Body=first, ChecksumSHA256=_base64(first), **self._about(name, sha256))
            else:
                self._put_parts(name, itertools.chain((first, second), parts), sha256)

    def put_new(self, key: str, data: bytes) -> bool:
        """Create an object; False too where it was created and the answer was lost on the way."""
        return self.replace(key, data, None) is not None

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Put an object under If-Match with its ETag, or under If-None-Match; return the new ETag."""
        name = self._name(key)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        about = self._about(name, hashlib.sha256(data).hexdigest())
        with self._explained(key, "created" if version is None else "replaced"):
            for tries_left in reversed(range(CONFLICT_TRIES)):
                try:
                    answer = self._client.put_object(Body=data, ChecksumSHA256=_base64(data), **about, **condition)
                    return answer["ETag"]
                except ClientError as error:
                    if code_of(error) in BEATEN:
                        return None
                    # AWS's answer to whoever writes while another does; who was first shows in the next try.
                    if code_of(error) != "ConditionalRequestConflict" or not tries_left:
                        raise
                    time.sleep(0.2)
        return None

    def read(self, key: str) -> bytes | None:
        """Return an object's content, its SHA-256 checked, or None when there is no such object."""
        found = self.read_versioned(key)
        return None if found is None else found.data

    def read_versioned(self, key: str) -> Versioned | None:
        """Return an object's content, its SHA-256 checked, its ETag and its age."""
        with self._explained(key, "read"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            except ClientError as error:
                if code_of(error) in NOT_THERE:
                    return None
                raise
        data = b"".join(self._checked(key, answer))
        return Versioned(data, answer["ETag"], _age_seconds(answer))

    def get(self, key: str) -> Iterator[bytes]:
        """Yield an object's content in chunks, going on where an answer breaks off; its SHA-256 is checked at the end.

        Raises:
            ChecksumError: at the end, when it is not the content that was put.
        """
        with self._explained(key, "read"):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
        yield from self._checked(key, answer)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`, but those that web consoles make for a folder."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._explained(prefix, "listed"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix):
                for found in page.get("Contents", ()):
                    if not found["Key"].endswith("/"):
                        yield ObjectInfo(found["Key"].removeprefix(self._root), found["Size"], found["LastModified"])

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        with self._explained(key, "deleted"):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def link(self, key: str) -> str:
        """Return an address that opens an object in a browser without credentials, for seven days.

        It names the endpoint of S3_PUBLIC_ENDPOINT_URL where that is set: the one that the browser's machine reaches.

        Raises:
            StorageError: there is no such object, or no credentials to sign with.
        """
        name, public = self._name(key), os.environ.get("S3_PUBLIC_ENDPOINT_URL")
        with self._explained(key, "linked to"):
            self._client.head_object(Bucket=self._bucket, Key=name)
            client = (
                boto3.client("s3", config=self._client.meta.config, endpoint_url=public) if public else self._client
            )
            wanted = {"Bucket": self._bucket, "Key": name}
            return client.generate_presigned_url("get_object", wanted, ExpiresIn=MAX_LINK_SECONDS)

    def sweep(self, prefix: str) -> None:
        """Abort the uploads in parts that killed writers have left below `prefix`."""
        large = [info.key for info in self.list(prefix) if info.size > self._part_bytes]
        for each in (prefix, *large):  # MinIO answers for whole keys alone
            self._sweep(each)

    def _sweep(self, prefix: str) -> None:
        pages = self._client.get_paginator("list_multipart_uploads")
        with self._explained(prefix, "swept"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix):
                for upload in page.get("Uploads", ()):
                    self._abort(upload["Key"], upload["UploadId"])

    def _holds(self, name: str, sha256: str) -> bool:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            # An answer to HEAD has no body: the request that follows learns why, and whether it matters.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                return False
            raise
        return answer["Metadata"].get(SHA256) == sha256

    def _put_parts(self, name: str, parts: Iterator[bytes], sha256: str) -> None:
        """Send a file in parts, each with its checksum; when that fails, no part is left."""
        created = self._client.create_multipart_upload(ChecksumAlgorithm="SHA256", **self._about(name, sha256))
        upload: dict[str, Any] = {"Bucket": self._bucket, "Key": name, "UploadId": created["UploadId"]}
        try:
            sent = []
            for number, part in enumerate(parts, 1):
                about: dict[str, Any] = {"PartNumber": number, "ChecksumSHA256": _base64(part)}
                answer = self._client.upload_part(Body=part, **upload, **about)
                sent.append({"ETag": answer["ETag"], **about})
            self._client.complete_multipart_upload(MultipartUpload={"Parts": sent}, **upload)  # type: ignore[typeddict-item]
        except BaseException as error:
            # Swept by somebody who saw the object whole, or completed by a try whose answer was lost.
            if isinstance(error, ClientError) and code_of(error) == "NoSuchUpload" and self._holds(name, sha256):
                return
            self._abort(name, created["UploadId"])
            raise

    def _abort(self, name: str, upload_id: str) -> None:
        """Drop an upload's parts; where the store cannot be asked to, a later `sweep` does."""
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload_id)
        except BOTO_ERRORS as error:
            if not (isinstance(error, ClientError) and code_of(error) == "NoSuchUpload"):
                log.warning("%s", storage_error(error, self._place(name), "cleared of a broken upload's parts"))

    def _checked(self, key: str, answer: Any) -> Iterator[bytes]:
        """Yield the body of an answer to GET, and what follows where it breaks off; check its SHA-256."""
        digest, num_read, etag = hashlib.sha256(), 0, answer["ETag"]
        expected = answer["Metadata"].get(SHA256)
        with self._explained(key, "read"):
            for tries_left in reversed(range(TRIES)):
                try:
                    for chunk in answer["Body"].iter_chunks(CHUNK):
                        num_read += len(chunk)
                        digest.update(chunk)
                        yield chunk
                    break
                except BROKEN_OFF:
                    if not tries_left:
                        raise
                finally:
                    answer["Body"].close()
                rest = {"Range": f"bytes={num_read}-", "IfMatch": etag}
                answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key), **rest)
        if expected not in (None, digest.hexdigest()):
            raise ChecksumError(
                f"{self._place(self._name(key))} is damaged: SHA-256 expected {expected}, found {digest.hexdigest()}. "
                "Restore it from a copy, or publish the run again from its directory."
            )

    def _about(self, name: str, sha256: str) -> Any:
        """Return what a new object is to be, beside its content."""
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return {"Bucket": self._bucket, "Key": name, "ContentType": kind, "Metadata": {SHA256: sha256}}

    def _name(self, key: str) -> str:
        check_key(key, self.address)
        return self._root + key

    def _place(self, name: str) -> Place:
        return Place(self._bucket, name, self._client.meta.endpoint_url)

    @contextmanager
    def _explained(self, key: str, done: str) -> Iterator[None]:
        """Turn what boto3 says into a StorageError that names bucket, key and endpoint."""
        try:
            yield
        except BOTO_ERRORS as error:
            raise storage_error(error, self._place(self._root + key), done) from error


def _config(session: boto3.session.Session) -> Config:
    """Set boto3 up; an endpoint that is not AWS's own gets the bucket in the path, unless a profile says otherwise."""
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        tcp_keepalive=True,
        response_checksum_validation="when_required",  # the SHA-256 in the metadata says more, also of parts
    )
    client = session.client("s3", config=config)
    plain = session.client("s3", config=config.merge(Config(**IGNORE_ENDPOINT)))
    is_custom = client.meta.endpoint_url != plain.meta.endpoint_url
    if is_custom and "addressing_style" not in (client.meta.config.s3 or {}):  # type: ignore[attr-defined]
        return config.merge(Config(s3={"addressing_style": "path"}))
    return config


def _parts(path: Path, sha256: str, part_bytes: int) -> Iterator[bytes]:
    """Yield a file's content in parts; StorageError after the last one unless the whole has this SHA-256."""
    part = bytearray()
    for chunk in checked(path, sha256):
        part += chunk
        while len(part) > part_bytes:
            yield bytes(part[:part_bytes])
            del part[:part_bytes]
    yield bytes(part)


def _base64(data: bytes) -> str:
    return b64encode(hashlib.sha256(data).digest()).decode()


def _age_seconds(answer: Any) -> float:
    """Return how long ago an object was written, both times by the server's clock, to the second."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    written: datetime = answer["LastModified"]
    return max(0.0, (now - written).total_seconds())
