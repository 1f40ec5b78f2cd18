"""Which store is at an address?"""

import re
from pathlib import Path

from gan.errors import StorageError
from gan.storage.base import LocalStore, Store
from gan.storage.s3 import S3Store

S3 = "s3://"
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # one letter is a drive


def is_remote(address: str | Path) -> bool:
    """Tell whether an address is that of a store which is no directory."""
    return SCHEME.match(str(address)) is not None


def open_store(address: str | Path) -> Store:
    """Return the store at an address: s3://BUCKET[/PREFIX], or a directory, made when the first object is put.

    Raises:
        StorageError: it is no such address, or boto3's settings make no sense.
    """
    text = str(address)
    if text.startswith(S3):
        bucket, _, prefix = text.removeprefix(S3).partition("/")
        if not bucket:
            raise StorageError(f"{text} names no bucket. Give the store as s3://BUCKET or s3://BUCKET/PREFIX.")
        return S3Store(bucket, prefix.rstrip("/"))
    if is_remote(text) or (Path(text).exists() and not Path(text).is_dir()):
        raise StorageError(f"{text} is neither a directory nor s3://BUCKET[/PREFIX]. Give one of them as the store.")
    return LocalStore(Path(text))


def link_to(address: str, key: str) -> str:
    """Return an address that opens an object of a bucket in a browser, without credentials, for seven days.

    Raises:
        StorageError: the address is no bucket's, or the object is not there.
    """
    store = open_store(address)
    if not isinstance(store, S3Store):
        raise StorageError(f"{address} is no bucket: open {Path(address) / key} itself.")
    return store.link(key)
