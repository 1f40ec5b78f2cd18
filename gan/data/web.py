"""How is a file downloaded over http(s) with limits on its time, its size and its redirects?"""

import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

import httpx
from anyio import fail_after, getaddrinfo
from anyio.from_thread import start_blocking_portal

from gan.errors import DownloadError, TooLargeError
from gan.storage.proxies import fault_of_proxies

Report = Callable[[int, int | None], None]  # bytes so far, total bytes if known

MAX_REDIRECTS = 5
HEAD_BYTES = 1024  # of a file that is too large: enough to see of which type it is
MISSING = (403, 404, 410)  # S3 answers 403 for a missing key if the client may not list the bucket
# Identity: a server must not compress a file on the way, because the bytes are stored as they come.
HEADERS = {"User-Agent": "gan-train", "Accept-Encoding": "identity"}


class Limits(NamedTuple):
    """How long a download may take, in seconds."""

    connect: float = 10.0  # to open a connection
    read: float = 20.0  # between two pieces
    total: float = 600.0


DEFAULT_LIMITS = Limits()


def get(url: str, max_bytes: int, limits: Limits, report: Report) -> bytes | None:
    """Return the content of a URL, or None if the server has no such file.

    A redirect may lead to https or to loopback. It may lead to plain http only if `url` is plain http itself. It may
    lead to a private address, or to loopback, only if `url` has such an address itself.

    Raises:
        DownloadError: the download failed; the message is the reason.
    """
    # The event loop runs in a thread of its own, because the caller's thread may have one already, as in a notebook.
    with start_blocking_portal() as portal:
        return portal.call(_get_in_time, url, max_bytes, limits, report)


async def _get_in_time(url: str, max_bytes: int, limits: Limits, report: Report) -> bytes | None:
    """Download within the limits and turn httpx's errors into reasons."""
    try:
        # Ends a download at any point. A socket's own time-out would start again with each byte, and a server could
        # send the headers byte by byte without an end.
        with fail_after(limits.total):
            return await _follow(httpx.URL(url), max_bytes, limits, report)
    except TimeoutError:
        raise DownloadError(f"took more than {limits.total:g} s") from None
    except httpx.ConnectTimeout:
        raise DownloadError(f"cannot be reached: timed out after {limits.connect:g} s") from None
    except httpx.ReadTimeout:
        raise DownloadError(f"sent nothing for {limits.read:g} s") from None
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise DownloadError(f"cannot be reached: {_reason(error)}") from error
    except (httpx.InvalidURL, ValueError, ImportError) as error:  # of the URL, or of a proxy that httpx cannot use
        raise DownloadError(f"cannot be reached: {error}") from error
    except httpx.TransportError as error:
        raise DownloadError(f"broke off: {_reason(error)}") from error


async def _follow(mirror: httpx.URL, max_bytes: int, limits: Limits, report: Report) -> bytes | None:
    """Follow redirects and read the file that they lead to."""
    url = mirror
    for _ in range(MAX_REDIRECTS + 1):
        # Closing the client at each redirect leaves the redirect's own body unread.
        async with _client(url, limits) as client, client.stream("GET", url) as response:
            if response.next_request is None:
                return await _read(response, max_bytes, report)
            url = response.next_request.url
        await _check_redirect(mirror, url)
    raise DownloadError(f"redirects more than {MAX_REDIRECTS} times")


async def _check_redirect(mirror: httpx.URL, url: httpx.URL) -> None:
    """Raise DownloadError unless a mirror may redirect to this URL."""
    if not (_is_safe(url) or (url.scheme == "http" and not _is_safe(mirror))):
        raise DownloadError(f"redirects to {url.scheme}://{url.host}, expected https or loopback")
    # Else anyone who runs a public mirror could send requests to services that only this machine can reach.
    if await _is_private(url) and not await _is_private(mirror):
        raise DownloadError(f"redirects to {url.scheme}://{url.host}, a private address, from a public one")


def _client(url: httpx.URL, limits: Limits) -> httpx.AsyncClient:
    """Return a client that trusts the system's certificates and uses the proxies that the environment names."""
    if fault := fault_of_proxies():
        raise DownloadError(fault)
    trusted = ssl.create_default_context()
    # With a transport of its own a client uses no proxy. To a proxy, loopback would be another machine.
    transport = httpx.AsyncHTTPTransport(verify=trusted) if _is_loopback(url) else None
    timeout = httpx.Timeout(limits.read, connect=limits.connect)
    return httpx.AsyncClient(headers=HEADERS, timeout=timeout, verify=trusted, transport=transport)


async def _read(response: httpx.Response, max_bytes: int, report: Report) -> bytes | None:
    """Read the body of a response, or return None if the server has no such file."""
    if response.status_code in MISSING:
        return None
    if not response.is_success:
        raise DownloadError(f"HTTP {response.status_code} {response.reason_phrase}")
    is_chunked = "transfer-encoding" in response.headers  # then a length means nothing
    size = None if is_chunked else response.headers.get("content-length")
    body = CappedBody(None if size is None else int(size), max_bytes, report)
    try:
        async for chunk in response.aiter_raw():
            body.add(chunk)
    except httpx.RemoteProtocolError:
        body.finish()  # has better words for a body that is too short
        raise
    return body.finish()


class CappedBody:
    """The bytes of a file, of which a size may be announced and `max_bytes` may be kept."""

    def __init__(self, size: int | None, max_bytes: int, report: Report) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._report = report
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Append a chunk and report the progress. Raises TooLargeError if the file is too large, or will be."""
        self._data += chunk
        if len(self._data) > min(self._max_bytes, HEAD_BYTES):
            self._check_size()
        self._report(len(self._data), self._size)

    def finish(self) -> bytes:
        """Return the whole file. Raises DownloadError if it is shorter than announced, or too large."""
        self._check_size()
        if self._size is not None and len(self._data) < self._size:
            raise DownloadError(f"broke off: found {len(self._data):,} bytes, expected {self._size:,}")
        return bytes(self._data)

    def _check_size(self) -> None:
        announced = self._size or 0
        if max(announced, len(self._data)) > self._max_bytes:
            found = f"{announced:,} bytes" if announced > self._max_bytes else f"{len(self._data):,} bytes and more"
            message = f"too large: found {found}, expected at most {self._max_bytes:,}"
            raise TooLargeError(message, bytes(self._data[:HEAD_BYTES]))


def _reason(error: BaseException) -> str:
    """Return the message of the first cause of an error, because httpx's own message is often empty."""
    while cause := error.__cause__ or error.__context__:
        error = cause
        if isinstance(error, BaseExceptionGroup):  # one error for each address of a host
            error = error.exceptions[0]
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)  # asyncio words it less clearly
    return str(error) or type(error).__name__


def _is_safe(url: httpx.URL) -> bool:
    """Return whether nobody on the way can change the content of this URL."""
    return url.scheme == "https" or (url.scheme == "http" and _is_loopback(url))


async def _is_private(url: httpx.URL) -> bool:
    """Return whether a URL's host has an address that is not one of the public internet."""
    try:
        found = await getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError:  # a name that only the proxy knows, or that nobody knows
        return False
    return any(not ipaddress.ip_address(address[0]).is_global for *_, address in found)


def _is_loopback(url: httpx.URL) -> bool:
    """Return whether a URL's host is this machine."""
    try:
        return url.host == "localhost" or ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False
