"""How does an S3 bucket keep the files of runs?"""

import hashlib
import itertools
import logging
import mimetypes
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from gan.errors import ChecksumError, StorageError
from gan.files import sha256_bytes, verified
from gan.storage.base import ObjectInfo, Versioned, check_key, read_verified
from gan.storage.masking import cause_without_secrets, masked, masked_url, remember_url
from gan.storage.s3_answers import SHA256, age_seconds, check_answers, content, stored_sha256
from gan.storage.s3_credentials import open_session
from gan.storage.s3_errors import (
    BOTO_ERRORS,
    CONDITION,
    SETTINGS,
    UNREADABLE,
    Location,
    NotS3Error,
    code_of,
    is_missing,
    is_unmet,
    refuses_conditions,
    storage_error,
)
from gan.storage.s3_settings import check_public_endpoint

PART_BYTES = 64 << 20  # a larger file is sent in parts of this size; two of them are in memory at a time
CONNECT_SECONDS = 5
ANSWER_SECONDS = 30  # between two pieces of an answer
ATTEMPTS = 4  # at a request, by boto3's standard rules; and at an answer that breaks off, from where it broke
CONFLICT_ATTEMPTS = 5
MAX_LINK_SECONDS = 7 * 24 * 3600  # the longest that S3 allows
BROKEN_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

IGNORE_ENDPOINT: dict[str, Any] = {"ignore_configured_endpoint_urls": True}  # boto3's types do not know it

log = logging.getLogger(__name__)


class S3Store:
    """A store in a bucket: objects have their keys below a prefix. boto3 finds the endpoint and the credentials.

    Each object has the SHA-256 of its content in its metadata. The server checks it on upload; we check it on download.
    """

    def __init__(self, bucket: str, prefix: str = "", *, part_bytes: int = PART_BYTES) -> None:
        """Set boto3 up; send no request yet. Raises StorageError when boto3's settings are invalid."""
        if prefix:
            check_key(prefix, f"s3://{bucket}")
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._part_bytes = part_bytes
        try:
            self._session = open_session(self.address)
            self._client = self._session.client("s3", config=_config(self._session))
        except BOTO_ERRORS as error:
            where = Location(bucket, self._root, "no endpoint yet")
            raise storage_error(error, where, "reached") from cause_without_secrets(error)
        except (AttributeError, TypeError) as error:  # from botocore: s3 or services is no table in a profile
            where = Location(bucket, self._root, "no endpoint yet")
            raise storage_error(error, where, "reached", SETTINGS) from cause_without_secrets(error)
        except ValueError as error:  # from botocore: the endpoint is not a URL
            what, colon, url = str(error).partition(": ")
            reason = masked(f"{what}{colon}{masked_url(url)}").strip()
            raise StorageError(
                f"{self.address} cannot be reached: {reason}. Correct AWS_ENDPOINT_URL_S3, or the "
                "profile's endpoint_url: http(s)://HOST[:PORT]."
            ) from None
        remember_url(self._client.meta.endpoint_url)
        check_answers(self._client)

    @property
    def address(self) -> str:
        """Return s3://BUCKET[/PREFIX]."""
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    def put(self, key: str, path: Path, sha256: str) -> None:
        """Send a file, in parts if it is large, unless an object with its SHA-256 exists."""
        name = self._name(key)
        with self._translated(key, "stored"):
            if self._holds(name, sha256):
                return
            parts = _parts(path, sha256, self._part_bytes)
            first, second = next(parts, b""), next(parts, None)
            if second is None:
                self._client.put_object(Body=first, ChecksumSHA256=_base64(first), **self._put_fields(name, sha256))
            else:
                self._put_parts(name, itertools.chain((first, second), parts), sha256)

    def copy(self, source: str, target: str, sha256: str) -> bool:
        """Copy an object on the server, with its metadata; return False also where the server cannot copy."""
        name, target_name = self._name(source), self._name(target)
        with self._translated(target, "copied"):
            etag = self._etag_of(name, sha256)
            if etag is None:
                return False
            origin: Any = {"CopySource": {"Bucket": self._bucket, "Key": name}, "CopySourceIfMatch": etag}
            try:
                self._client.copy_object(Bucket=self._bucket, Key=target_name, **origin)
            except ClientError as error:
                if is_unmet(error) or is_missing(error) or code_of(error) in ("NotImplemented", "MethodNotAllowed"):
                    return False
                raise
        return True

    def put_new(self, key: str, data: bytes) -> bool:
        """Create an object; also return False where it was created and the answer was lost."""
        return self.replace(key, data, None) is not None

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Put an object under If-Match with its ETag, or under If-None-Match; return the new ETag."""
        name, done = self._name(key), "created" if version is None else "replaced"
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        fields = self._put_fields(name, sha256_bytes(data)) | {"Body": data, "ChecksumSHA256": _base64(data)}
        with self._translated(key, done):
            for attempts_left in reversed(range(CONFLICT_ATTEMPTS)):
                try:
                    return self._client.put_object(**fields, **condition)["ETag"]
                except ClientError as error:
                    if is_unmet(error) or (version is not None and is_missing(error)):
                        return None
                    if refuses_conditions(error):
                        cause = cause_without_secrets(error)
                        raise storage_error(error, self._location(name), done, CONDITION) from cause
                    # AWS answers so while another writer is at work; the next attempt shows who was first.
                    if code_of(error) != "ConditionalRequestConflict" or not attempts_left:
                        raise
                    time.sleep(0.2)
        return None

    def read(self, key: str) -> bytes | None:
        """Return an object's content after checking its SHA-256, or None when there is no such object."""
        found = self.read_versioned(key)
        return None if found is None else found.data

    def read_versioned(self, key: str) -> Versioned | None:
        """Return an object's content after checking its SHA-256, its ETag as the version, and its age."""
        with self._translated(key, "read"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
            chunks = self._verified(key, answer)
        return Versioned(b"".join(chunks), answer["ETag"], age_seconds(answer))

    def get(self, key: str) -> Iterator[bytes]:
        """Yield an object's content in chunks. Where an answer breaks off, request the rest.

        Raises:
            ChecksumError: after the last chunk, when the content is not what was put.
        """
        with self._translated(key, "read"):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            chunks = self._verified(key, answer)
        yield from chunks

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`, except the folders that web consoles make."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._translated(prefix, "listed"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix):
                for found in page.get("Contents", ()):
                    if found["Key"].startswith(self._root + prefix) and not found["Key"].endswith("/"):
                        yield ObjectInfo(found["Key"].removeprefix(self._root), found["Size"], found["LastModified"])

    def delete(self, key: str) -> None:
        """Delete an object; do nothing when there is no such object."""
        with self._translated(key, "deleted"):
            try:
                self._client.delete_object(Bucket=self._bucket, Key=self._name(key))
            except ClientError as error:
                if not is_missing(error):
                    raise

    def link(self, key: str) -> str:
        """Return an address that opens an object in a browser without credentials, for seven days.

        The address has the endpoint in S3_PUBLIC_ENDPOINT_URL where that is set, for browsers on other machines.

        Raises:
            StorageError: there is no such object, there are no credentials to sign with, or the variable is no address.
        """
        name, public = self._name(key), check_public_endpoint()
        with self._translated(key, "linked to"):
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
            # A web server answers any HEAD with its own page.
            if self._sha256_in(answer, name) is None and not any(info.key == key for info in self.list(key)):
                raise NotS3Error(found="the object that it shows is not in its list")
            client = self._client
            if public:
                client = self._session.client("s3", config=client.meta.config, endpoint_url=public)
            wanted = {"Bucket": self._bucket, "Key": name}
            return client.generate_presigned_url("get_object", wanted, ExpiresIn=MAX_LINK_SECONDS)

    def sweep(self, prefix: str) -> None:
        """Abort the uploads in parts that killed writers have left below `prefix`."""
        large = [info.key for info in self.list(prefix) if info.size > self._part_bytes]
        for each in (prefix, *large):  # MinIO lists uploads by whole key only, not by prefix
            self._abort_uploads(each)

    def _abort_uploads(self, prefix: str) -> None:
        pages = self._client.get_paginator("list_multipart_uploads")
        with self._translated(prefix, "swept"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix):
                for upload in page.get("Uploads", ()):
                    if upload["Key"].startswith(self._root + prefix):  # there are servers that list all
                        self._abort(upload["Key"], upload["UploadId"])

    def _holds(self, name: str, sha256: str) -> bool:
        return self._etag_of(name, sha256) is not None

    def _etag_of(self, name: str, sha256: str) -> str | None:
        """Return the ETag of an object with this content, or None where there is none."""
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            # An answer to HEAD has no body with a reason; the request that follows gets the reason.
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status < 500 or status == 501:
                return None
            raise
        return answer["ETag"] if self._sha256_in(answer, name) == sha256 else None

    def _put_parts(self, name: str, parts: Iterator[bytes], sha256: str) -> None:
        """Send a file in parts, each with its checksum; when that fails, remove all parts."""
        created = self._client.create_multipart_upload(ChecksumAlgorithm="SHA256", **self._put_fields(name, sha256))
        upload: dict[str, Any] = {"Bucket": self._bucket, "Key": name, "UploadId": created["UploadId"]}
        try:
            sent = []
            for number, part in enumerate(parts, 1):
                fields: dict[str, Any] = {"PartNumber": number, "ChecksumSHA256": _base64(part)}
                answer = self._client.upload_part(Body=part, **upload, **fields)
                sent.append({"ETag": answer["ETag"], **fields})
            self._client.complete_multipart_upload(MultipartUpload={"Parts": sent}, **upload)  # type: ignore[typeddict-item]
        except BaseException as error:
            # Swept by a publisher that found the object whole, or completed by an attempt whose answer was lost.
            if isinstance(error, ClientError) and code_of(error) == "NoSuchUpload" and self._holds(name, sha256):
                return
            self._abort(name, created["UploadId"])
            raise

    def _abort(self, name: str, upload_id: str) -> None:
        """Remove an upload's parts; where that fails, a later `sweep` removes them."""
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload_id)
        except BOTO_ERRORS as error:
            if not (isinstance(error, ClientError) and code_of(error) == "NoSuchUpload"):
                log.warning("%s", storage_error(error, self._location(name), "cleared of a broken upload's parts"))

    def _verified(self, key: str, answer: Any) -> Iterator[bytes]:
        """Yield the content that an answer to GET begins; check it where the metadata has its SHA-256."""
        chunks = self._content(key, answer)
        expected = self._sha256_in(answer, self._name(key))
        if expected is None:
            return chunks

        def damaged(found: str) -> ChecksumError:
            return ChecksumError(
                f"{self._location(self._name(key))} is damaged: SHA-256 expected {expected}, found {found}. "
                "Restore it from a copy, or publish the run again from its directory."
            )

        return verified(chunks, expected, damaged)

    def _content(self, key: str, answer: Any) -> Iterator[bytes]:
        """Yield the body of an answer to GET; where it breaks off, request the rest, at most 3 times."""
        num_read, etag = 0, answer["ETag"]
        with self._translated(key, "read"):
            for attempts_left in reversed(range(ATTEMPTS)):
                try:
                    for chunk in content(answer, num_read):
                        num_read += len(chunk)
                        yield chunk
                    return
                except BROKEN_OFF:
                    if not attempts_left:
                        raise
                finally:
                    answer["Body"].close()
                rest = {"Range": f"bytes={num_read}-", "IfMatch": etag}
                answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key), **rest)

    def _sha256_in(self, answer: Any, name: str) -> str | None:
        return stored_sha256(answer, name.removeprefix(self._root), self.address)

    def _put_fields(self, name: str, sha256: str) -> Any:
        """Return the fields of a request that puts an object, except its content."""
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return {"Bucket": self._bucket, "Key": name, "ContentType": kind, "Metadata": {SHA256: sha256}}

    def _name(self, key: str) -> str:
        check_key(key, self.address)
        return self._root + key

    def _location(self, name: str) -> Location:
        return Location(self._bucket, name, self._client.meta.endpoint_url)

    @contextmanager
    def _translated(self, key: str, done: str) -> Iterator[None]:
        """Translate an error of boto3, or in an answer, into a StorageError that names bucket, key and endpoint."""
        try:
            yield
        except (*BOTO_ERRORS, *UNREADABLE) as error:
            raise storage_error(error, self._location(self._root + key), done) from cause_without_secrets(error)


def _config(session: boto3.session.Session) -> Config:
    """Return boto3's settings; for other servers than AWS, the bucket is in the path unless a profile differs."""
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        tcp_keepalive=True,
        response_checksum_validation="when_required",  # we check the whole content's SHA-256
    )
    client = session.client("s3", config=config)
    plain = session.client("s3", config=config.merge(Config(**IGNORE_ENDPOINT)))
    is_custom = client.meta.endpoint_url != plain.meta.endpoint_url
    if is_custom and "addressing_style" not in (client.meta.config.s3 or {}):  # type: ignore[attr-defined]
        return config.merge(Config(s3={"addressing_style": "path"}))
    return config


def _parts(path: Path, sha256: str, part_bytes: int) -> Iterator[bytes]:
    """Yield a file's content in parts; raise StorageError before the last one unless the whole has this SHA-256."""
    part = bytearray()
    for chunk in read_verified(path, sha256):
        part += chunk
        while len(part) > part_bytes:
            yield bytes(part[:part_bytes])
            del part[:part_bytes]
    yield bytes(part)


def _base64(data: bytes) -> str:
    return b64encode(hashlib.sha256(data).digest()).decode()
