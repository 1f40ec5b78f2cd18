"""How is a file read over http(s) with a bound on its time, its size and whom to trust?"""

import functools
import http.client
import io
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from gan.errors import DownloadError

Report = Callable[[int, int | None], None]  # bytes so far, bytes in all where known

CHUNK_BYTES = 1 << 16
# 403: S3 says so of a missing key to whoever may not list the bucket.
NOT_THERE = (403, 404, 410)


class Limits(NamedTuple):
    """How long a file may take, in seconds."""

    connect: float = 10.0  # for each address of a host
    read: float = 20.0  # between two pieces
    total: float = 600.0


DEFAULT_LIMITS = Limits()


def get(url: str, max_bytes: int, limits: Limits, report: Report) -> bytes | None:
    """Return what a URL answers, None where there is no such file.

    A redirect may lead to https or to loopback; to plain http only from plain http.

    Raises:
        DownloadError: any fault; the message is the reason.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "gan-train"})
    handlers = [_TimedHandler(_Clock(limits)), _Redirects(plain_http=not _is_private(url))]
    if _is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy's loopback is another machine
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=limits.connect) as response:
            return read_capped(response, response.length, max_bytes, report)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in NOT_THERE:
            return None
        raise DownloadError(f"HTTP {error.code} {' '.join(str(error.reason).split())}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"cannot be reached: {error.reason}") from error
    # ValueError: urllib's answer to a redirect that is no URL.
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"broke off: {str(error) or type(error).__name__}") from error


def read_capped(file: IO[bytes], size: int | None, max_bytes: int, report: Report) -> bytes:
    """Read a file of an announced size to its end, never more than `max_bytes`.

    Raises:
        DownloadError: the file is larger than that, or ends before its announced size.
    """
    if size is not None and size > max_bytes:
        raise DownloadError(f"too large: found {size:,} bytes, expected at most {max_bytes:,}")
    data = bytearray()
    while chunk := file.read(CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise DownloadError(f"too large: found {len(data):,} bytes and more, expected at most {max_bytes:,}")
        report(len(data), size)
    if size is not None and len(data) < size:
        raise DownloadError(f"broke off: found {len(data):,} bytes, expected {size:,}")
    return bytes(data)


class _Clock:
    """Tells how long the next read of a file may take."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._end = time.monotonic() + limits.total

    def left(self) -> float:
        """Return the seconds left for the file; DownloadError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise DownloadError(f"took more than {self.limits.total:g} s")
        return left


class _TimedReader(io.RawIOBase):
    """Reads a connection by the clock: a socket's own time-out starts anew with each byte that drips in."""

    def __init__(self, clock: _Clock, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._clock = clock
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(min(self._clock.limits.read, self._clock.left()))
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            self._clock.left()  # speaks up where the time of the whole file is over
            raise DownloadError(f"sent nothing for {self._clock.limits.read:g} s") from None

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """An answer whose head and body are read by the clock."""

    def __init__(self, clock: _Clock, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(clock, sock, self.fp.detach()))


class _TimedHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections with timed responses."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(self._connect, http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(self._connect, http.client.HTTPSConnection), req)

    def _connect(self, kind: type[http.client.HTTPConnection], host: str, **kwargs: Any) -> http.client.HTTPConnection:
        connection = kind(host, **kwargs)
        # Called, never subclassed, by http.client.
        connection.response_class = functools.partial(_TimedResponse, self._clock)  # type: ignore[assignment]
        return connection


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect unless it leads to plain http that nobody asked for."""

    max_redirections = 5

    def __init__(self, plain_http: bool) -> None:
        self._plain_http = plain_http

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # else urllib reads the redirect's own body, to whatever end
        target = urlsplit(newurl)
        if not (_is_private(newurl) or (self._plain_http and target.scheme == "http")):
            raise DownloadError(f"redirects to {target.scheme}://{target.hostname}, expected https or loopback")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_private(url: str) -> bool:
    """Tell whether nobody between here and there can change what this URL answers."""
    return urlsplit(url).scheme == "https" or (urlsplit(url).scheme == "http" and _is_loopback(url))


def _is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
