"""Is an answer one of S3's, and what does it say about an object?

A web console, a proxy or a firewall may answer in the store's place. Its pages must not be taken for objects.
"""

import html
import logging
import mimetypes
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate, parsedate_to_datetime
from typing import Any

from gan.files import CHUNK
from gan.storage.masking import masked_url
from gan.storage.s3_errors import NotS3Error

SHA256 = "sha256"  # key in the metadata of each object that we put: hex, of the whole content
NEEDED_HEADERS = {
    "GetObject": ("etag", "last-modified"),
    "HeadObject": ("etag",),
    "PutObject": ("etag",),
    "UploadPart": ("etag",),
}
ROOTS = {  # of the XML in an answer
    "ListObjectsV2": b"ListBucketResult",
    "ListMultipartUploads": b"ListMultipartUploadsResult",
    "CreateMultipartUpload": b"InitiateMultipartUploadResult",
    "CopyObject": b"CopyObjectResult",
    "CompleteMultipartUpload": b"CompleteMultipartUploadResult",
}
COMPRESSED = ("gzip", "deflate", "br", "zstd")  # by a proxy: we ask for no such answer, and put no such object
TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)
MAX_HEAD = 1000  # bytes in which a page says that it is one
MAX_SHOWN = 80  # characters of a page

log = logging.getLogger(__name__)
_warned: set[str] = set()  # addresses of stores


def check_answers(client: Any) -> None:
    """Make a client of boto3 raise NotS3Error for an answer that is not one of S3, before boto3 reads it."""
    for operation in (*NEEDED_HEADERS, *ROOTS, "DeleteObject", "AbortMultipartUpload", "HeadBucket"):
        # The star puts us before a handler of boto3, which takes each text that is not XML for an error 500.
        client.meta.events.register(f"before-parse.*.{operation}", _check)


def stored_sha256(answer: Any, name: str, address: str) -> str | None:
    """Return the SHA-256 in the metadata of an answer to GET or HEAD; without one, warn once for each store.

    Raises:
        NotS3Error: the answer is a web page, and the object has not the name of one.
    """
    metadata = {key.lower(): value for key, value in answer["Metadata"].items()}  # some servers write Sha256
    found = re.fullmatch(r'"?([0-9a-f]{64})"?', metadata.get(SHA256, "").strip().lower())
    if found:
        return found[1]
    if answer.get("ContentType", "").startswith("text/html") and mimetypes.guess_type(name)[0] != "text/html":
        _close(answer.get("Body"))
        raise NotS3Error(found=f"a web page in place of {name}")
    if address not in _warned:
        _warned.add(address)
        log.warning("%s in %s has no SHA-256 in its metadata: damage to it is not noticed when it is read, and it is "
                    "sent again each time. The store or a proxy drops x-amz-meta-sha256, or another program has put "
                    "the object. `gan verify` compares a published run with its manifest. Other objects of this store "
                    "are not named.", name, address)  # fmt: skip
    return None


def age_seconds(answer: Any) -> float:
    """Return the seconds since an object was written, by the server's clock."""
    try:
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        now = datetime.now(UTC)
    written: datetime = answer["LastModified"]
    return max(0.0, (now.replace(tzinfo=now.tzinfo or UTC) - written).total_seconds())


def content(answer: Any, start: int) -> Iterator[bytes]:
    """Yield an object's content from a byte on; `answer` is to a request for this part, or for all."""
    is_part = answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    num_known = 0 if is_part else start
    for chunk in answer["Body"].iter_chunks(CHUNK):
        yield chunk[num_known:]
        num_known = max(0, num_known - len(chunk))


def _check(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Raise NotS3Error where the status, the headers and the body cannot be of S3."""
    status, headers, body = (response_dict[name] for name in ("status_code", "headers", "body"))
    text = body if isinstance(body, bytes) else b""  # a stream in an answer to GET
    if (coding := headers.get("content-encoding")) in COMPRESSED:
        _close(body)
        raise NotS3Error(found=f"{status}, compressed on the way (Content-Encoding: {coding})")
    if status >= 500 or status in (304, 407, 412) or b"<Error" in text:  # of S3 or a proxy, or needs no body
        return
    lacking = []
    if status >= 400:
        is_s3 = not text
    elif status >= 300:
        is_s3 = "x-amz-bucket-region" in headers
    else:
        lacking = [n for n in NEEDED_HEADERS.get(operation_model.name, ()) if not _is_usable(n, headers.get(n))]
        is_s3 = not lacking and not _is_page(headers, text) and ROOTS.get(operation_model.name, b"") in text
    if not is_s3:
        _close(body)
        raise NotS3Error(found=_shown(status, headers, text, lacking))


def _close(body: Any) -> None:
    """Close an answer's stream; its connection is not used again, since the rest of the stream is not read."""
    if body is not None and not isinstance(body, bytes):
        body.close()


def _is_page(headers: Any, text: bytes) -> bool:
    is_typed = text.strip() and headers.get("content-type", "").startswith("text/html")
    return bool(is_typed) or b"<html" in text[:MAX_HEAD].lower() or b"<!doctype html" in text[:MAX_HEAD].lower()


def _is_usable(name: str, text: str | None) -> bool:
    return text is not None and (name != "last-modified" or parsedate(text) is not None)


def _shown(status: int, headers: Any, text: bytes, lacking: list[str]) -> str:
    """Return what an answer is, in a few words."""
    if 300 <= status < 400:
        return f"{status}, a redirect to {masked_url(headers.get('location', 'no address'))}"
    page = text.decode(errors="replace")
    title = TITLE.search(page)
    words = title[1] if title else re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    shown = " ".join(html.unescape(words).split())[:MAX_SHOWN]
    missing = f", without a usable {' and '.join(lacking)}" if lacking else ""
    return f"{status}, {headers.get('content-type', 'no type')}{missing}{': ' if shown else ''}{shown}"
