"""Which store is at an address?"""

import re
from pathlib import Path

from gan.errors import StorageError
from gan.files import check_path
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.storage.masking import masked_url
from gan.storage.s3 import S3Store

S3 = "s3://"
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a single letter is a Windows drive


def is_remote(address: str | Path) -> bool:
    """Return whether an address names a store that is not a directory."""
    return SCHEME.match(str(address)) is not None


def open_store(address: str | Path) -> Store:
    """Return the store at an address: s3://BUCKET[/PREFIX] or a directory, which is made when an object is put.

    Raises:
        StorageError: the address is not of this form, or boto3's settings are invalid; or the directory is one that
            this user may not read.
    """
    text = str(address)
    if text.startswith(S3):
        bucket, _, prefix = text.removeprefix(S3).partition("/")
        if not bucket or "@" in bucket:
            fault = "has a user or a password in it" if bucket else "has no bucket in it"
            raise StorageError(f"{masked_url(text)} {fault}. Give the store as s3://BUCKET or s3://BUCKET/PREFIX.")
        return S3Store(bucket, prefix.rstrip("/"))
    if not is_remote(text):
        check_path(Path(text))
    if is_remote(text) or (Path(text).exists() and not Path(text).is_dir()):
        shown = masked_url(text) if is_remote(text) else text
        raise StorageError(f"{shown} is neither a directory nor s3://BUCKET[/PREFIX]. Give one of these two.")
    return LocalStore(Path(text))


def link_to(address: str, key: str) -> str:
    """Return an address that opens an object of a bucket in a browser, without credentials, for seven days.

    Raises:
        StorageError: the address is not one of a bucket, or there is no such object.
    """
    store = open_store(address)
    if not isinstance(store, S3Store):
        raise StorageError(f"{address} is not a bucket: open the file {Path(address) / key} instead.")
    return store.link(key)
