"""Does a store keep the conditions of writes, by which two processes are kept apart?

A server, or a proxy before it, may take a write and ignore its If-None-Match or If-Match. Then two processes hold one
lease, and one loses the other's change of the champion. So the first of these writes of a process is preceded by writes
that must not succeed. They would write what the object has anyway, and so change nothing where they do.
"""

from gan.errors import StorageError
from gan.storage.base import Store
from gan.storage.local import LocalStore

NO_VERSION = '"00000000000000000000000000000000"'  # an ETag that no object has

NOT_MADE = "a write under If-None-Match: * was refused, although there is no such object"
NOT_READ = "after its creation, the object was not there"

_proven: set[str] = set()  # addresses of the stores that have kept the conditions, in this process


def swap(store: Store, key: str, data: bytes, version: str | None, idle: bytes) -> str | None:
    """Replace one version of an object, or create it, as `Store.replace` does; first prove that the store can.

    `idle` is a content of the object that means nothing. A new object has it until the store is proven; and after
    that, where the store is refused and does not let us delete the object.

    Raises:
        StorageError: the store does not keep the conditions. The object is then as it was before.
    """
    if isinstance(store, LocalStore) or store.address in _proven:
        return store.replace(key, data, version)
    is_new = version is None
    if version is None:
        version = store.replace(key, idle, None)
    content = store.read(key)
    if content is None and is_new:
        raise _refused(store, [NOT_MADE if version is None else NOT_READ], key)
    if version is None or content is None:
        return None
    try:
        version = _prove(store, key, content, version)
    except StorageError as error:
        left = _cleared(store, key) if is_new and content == idle else ""
        raise StorageError(f"{error}{left}") from error
    return None if version is None else store.replace(key, data, version)


def _prove(store: Store, key: str, content: bytes, version: str) -> str | None:
    """Return the version of a proven store's object; None where another process has replaced it."""
    seen = []
    if store.replace(key, content, None) is not None:
        seen.append("a write was done under If-None-Match: *, although the object exists")
    if store.replace(key, content, NO_VERSION) is not None:
        seen.append("a write was done under If-Match with an ETag that the object does not have")
    after = None if seen else store.replace(key, content, version)
    if after is None and not seen:
        found = store.read_versioned(key)
        if found is None or found.version != version:
            return None
        seen.append(f"a write under If-Match was refused, although {version} is the object's ETag")
    if seen:
        raise _refused(store, seen, key)
    _proven.add(store.address)
    return after


def _refused(store: Store, seen: list[str], key: str) -> StorageError:
    return StorageError(
        f"{store.address} cannot keep two processes apart. Seen at {key}: {'; '.join(seen)}. "
        "Use a store that keeps these conditions, as AWS S3, MinIO and SeaweedFS do, or a directory. A proxy before "
        "the store must pass on these headers, and the ETag, as they are."
    )


def _cleared(store: Store, key: str) -> str:
    """Delete an object that was created; return a sentence where it stays."""
    try:
        store.delete(key)
    except StorageError:
        return f" {key} cannot be deleted and stays there; it says nothing, and is in nobody's way."
    return ""
