"""Are the four files downloaded from a mirror with good copies, and is everything else refused?"""

import gzip
import hashlib
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gan.data import download, idx
from gan.data.dataset import load_dataset, validate_dataset
from gan.data.download import download_dataset, mirrors_from_env
from gan.data.mnist import FILES
from gan.data.web import Limits
from gan.errors import DataError, DownloadError, IdxFormatError
from tests.support.mirror_server import Answer, MirrorServer, body, endless, redirect, reset, stall, status, truncated
from tests.support.tiny_mnist import NAMES, NUM_ITEMS, TINY, make, raw

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = NAMES
ROOT = Path(__file__).parents[3]
HTML = b"<!DOCTYPE html><title>Sign in</title>"
PATIENT = Limits(read=0.5)  # of which only the stalling mirror needs all


@pytest.fixture(autouse=True)
def no_other_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use only the mirrors that the test names."""
    monkeypatch.setattr(download, "DEFAULT_MIRRORS", ())
    monkeypatch.delenv("GAN_MNIST_MIRRORS", raising=False)


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@pytest.mark.usefixtures("tiny_is_mnist")
def test_download_fetches_once(mirror: MirrorServer, tmp_path: Path) -> None:
    mirror.serve_folder(TINY)
    paths = download_dataset(tmp_path / "data", [mirror.url])
    assert paths == [tmp_path / "data" / f"{name}.gz" for name in NAMES]
    assert [path.read_bytes() for path in paths] == [(TINY / path.name).read_bytes() for path in paths]
    assert mirror.requests == [path.name for path in paths]
    assert download_dataset(tmp_path / "data", [mirror.url]) == paths
    assert len(mirror.requests) == 4 and len(list((tmp_path / "data").iterdir())) == 4


def test_a_raw_mirror_leaves_raw_files_whatever_their_names(mirror: MirrorServer, tmp_path: Path) -> None:
    mirror.answers = {name: body(raw(name)) for name in NAMES} | {f"{IMAGES}.gz": body(raw(IMAGES))}
    assert download_dataset(tmp_path, [mirror.url], pinned=False) == [tmp_path / name for name in NAMES]
    assert load_dataset(tmp_path, pinned=False).train_labels.tolist() == [5, 0, 4, 1]


def test_progress_is_reported(mirror: MirrorServer, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    download_dataset(tmp_path, [mirror.serve_folder(TINY).url], pinned=False, progress=lambda *now: seen.append(now))
    assert seen == [(IMAGES, 736, 736), (LABELS, 32, 32), (TEST_IMAGES, 650, 650), (TEST_LABELS, 32, 32)]


INT32 = struct.pack(">HBBII", 0, 0x0C, 2, 4, 8)  # of an idx file like that of QMNIST's labels
BAD_IMAGES: list[tuple[Answer, str]] = [
    (status(404), f"has neither {IMAGES}.gz nor {IMAGES}"),
    (status(500), "HTTP 500 Internal Server Error"),
    (truncated(gz(raw(IMAGES))), "broke off: found 368 bytes, expected 736"),
    (reset(gz(raw(IMAGES))), "broke off: .*Connection reset by peer"),
    (stall(gz(raw(IMAGES))), "sent nothing for 0.5 s"),
    (redirect("http://mirror.example/"), "redirects to http://mirror.example, expected https or loopback"),
    (endless(raw(IMAGES) + bytes(1 << 20)), "too large: found .* bytes and more, expected at most 4,179"),
    (body(raw(IMAGES) + bytes(8000)), "too large: found 11,152 bytes, expected at most 4,179"),
    (body(INT32 + bytes(8000)), f"{IMAGES}: begins with .* .idx, int32, 2 dimensions"),
    (endless(gz(INT32 + bytes(8000)) + bytes(1 << 20)), f"{IMAGES} .unpacked.: begins with .* .idx, int32, 2 dimen"),
    (body(HTML + b" " * 8000), f"{IMAGES}: begins with b'<!DO' .an HTML or XML page"),
    (body(HTML), f"{IMAGES}: begins with b'<!DO' .an HTML or XML page"),
    (body(gz(HTML)), "an HTML or XML page"),
    (body(b""), "an empty file"),
    (body(gz(raw(IMAGES))[:-1]), "gzip is truncated"),
    (body(gz(raw(IMAGES)) * 2), "found 736 bytes after the gzip member, expected exactly one member"),
    (body(gz(raw(IMAGES) + bytes(1 << 20))), "unpacks to more than the 3,152 bytes"),
    (body(raw(LABELS)), "idx, uint8, 1 dimensions"),
    (body(raw(TEST_IMAGES)), f"found content of SHA-256 {hashlib.sha256(raw(TEST_IMAGES)).hexdigest()}, expected fba5"),
    (body(idx.encode(np.zeros((3, 28, 28), np.uint8))), "found 3 items, expected 4"),
]


@pytest.mark.usefixtures("tiny_is_mnist")
@pytest.mark.parametrize(("answer", "reason"), BAD_IMAGES)
def test_a_bad_mirror_is_reported_and_nothing_is_written(
    mirror: MirrorServer, tmp_path: Path, answer: Answer, reason: str
) -> None:
    mirror.serve_folder(TINY).answers[f"{IMAGES}.gz"] = answer
    with pytest.raises(DownloadError, match=f"\n  {mirror.url}: .*{reason}"):
        download_dataset(tmp_path / "data", [mirror.url], limits=PATIENT)
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("tiny_is_mnist")
@pytest.mark.parametrize("answer", [answer for answer, _ in BAD_IMAGES])
def test_after_a_bad_mirror_the_next_one_is_used(mirror: MirrorServer, tmp_path: Path, answer: Answer) -> None:
    mirror.answers[f"{IMAGES}.gz"] = answer
    download_dataset(tmp_path, [mirror.url, TINY.as_uri()], limits=PATIENT)
    assert load_dataset(tmp_path).train_labels.tolist() == [5, 0, 4, 1]


@pytest.mark.usefixtures("tiny_is_mnist")
def test_a_mirror_that_failed_is_used_last(mirror: MirrorServer, data_dir: Path, tmp_path: Path) -> None:
    (data_dir / f"{TEST_LABELS}.gz").unlink()
    mirror.serve_folder(TINY).answers[f"{IMAGES}.gz"] = status(503)
    download_dataset(tmp_path / "other", [mirror.url, data_dir.as_uri()])
    assert mirror.requests == [f"{IMAGES}.gz", f"{TEST_LABELS}.gz"]  # the rest came from the folder


@pytest.mark.parametrize(
    ("given", "environment", "asked"),
    [
        (["file:///a"], "file:///b", ["file:///a", "file:///default"]),
        ([], " file:///b , npm:c@1,", ["file:///b", "npm:c@1", "file:///default"]),
        ([], "", ["file:///default"]),
    ],
)
def test_which_mirrors_are_used_in_which_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], environment: str, asked: list[str]
) -> None:
    monkeypatch.setattr(download, "DEFAULT_MIRRORS", ("file:///default",))
    monkeypatch.setenv("GAN_MNIST_MIRRORS", environment)
    monkeypatch.setenv("PATH", "")  # no npm
    with pytest.raises(DownloadError) as caught:
        download_dataset(tmp_path, given)
    lines = str(caught.value).splitlines()[1:-1]
    assert [line.strip().split(": ")[0] for line in lines] == asked


@pytest.mark.usefixtures("tiny_is_mnist")
def test_mnist_does_not_complete_another_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default mirror's labels would fit the images of Fashion-MNIST in all but their meaning."""
    monkeypatch.setattr(download, "DEFAULT_MIRRORS", (TINY.as_uri(),))
    (tmp_path / "other").mkdir()
    shutil.copy(TINY / f"{IMAGES}.gz", tmp_path / "other")
    with pytest.raises(DownloadError, match=f"{LABELS}: no mirror has a good copy"):
        download_dataset(tmp_path / "data", [(tmp_path / "other").as_uri()], pinned=False)
    assert len(download_dataset(tmp_path / "empty", pinned=False)) == 4


@pytest.mark.usefixtures("tiny_is_mnist")
@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_without_a_named_mirror_another_set_stays_as_it_is(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(download, "DEFAULT_MIRRORS", (TINY.as_uri(),))
    shutil.copy(data_dir / f"{TEST_IMAGES}.gz", data_dir / f"{IMAGES}.gz")  # as another set has other images
    labels = data_dir / f"{LABELS}.gz"
    labels.unlink() if fault == "missing" else labels.write_bytes(HTML)
    before = {path.name: path.read_bytes() for path in data_dir.iterdir()}
    with pytest.raises(
        DataError, match=f"{LABELS} is missing or damaged. .* {IMAGES}.gz, which is not .*--mirror"
    ) as caught:
        download_dataset(data_dir, pinned=False)
    assert not isinstance(caught.value, DownloadError)  # which the flow would retry
    assert {path.name: path.read_bytes() for path in data_dir.iterdir()} == before
    with pytest.raises(DataError, match="`gan download .* --no-pinned-hash --mirror URL`"):
        validate_dataset(data_dir, pinned=False)


@pytest.mark.usefixtures("tiny_is_mnist")
def test_without_a_named_mirror_mnist_itself_is_completed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "DEFAULT_MIRRORS", (TINY.as_uri(),))
    (data_dir / f"{LABELS}.gz").unlink()
    assert len(download_dataset(data_dir, pinned=False)) == 4


def test_a_mirrors_password_is_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = "http://localhost:1/secret@mirror.example"  # a URL of a path with an @, or a password that begins with 1/
    with pytest.raises(DownloadError, match=r"http://\*\*\*@mirror.example: cannot be reached") as caught:
        download_dataset(tmp_path, [url])
    assert "secret" not in str(caught.value) + caplog.text


def test_without_a_network_the_error_says_how_to_copy_the_files(mirror: MirrorServer, tmp_path: Path) -> None:
    mirror.close()
    with pytest.raises(DownloadError) as caught:
        download_dataset(tmp_path / "data", [mirror.url, "file:///no/such/folder"])
    first, refused, no_folder, what_to_do = str(caught.value).splitlines()
    assert first == f"{IMAGES}: no mirror has a good copy:"
    assert refused.startswith(f"  {mirror.url}: cannot be reached: ") and refused.endswith("Connection refused")
    assert no_folder == "  file:///no/such/folder: no such folder"
    assert what_to_do == (
        "Check the network and try again, or name a mirror with --mirror or GAN_MNIST_MIRRORS, or copy the files "
        f"yourself: put {IMAGES}, {LABELS}, {TEST_IMAGES}, {TEST_LABELS} (each unpacked or as .gz) "
        f"into {tmp_path / 'data'} and check them with `gan validate`."
    )


def test_a_malformed_mirror_is_reported_before_any_request(mirror: MirrorServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'mirror' is not a mirror"):
        download_dataset(tmp_path, [mirror.serve_folder(TINY).url, "mirror"])
    assert mirror.requests == [] and list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tiny_is_mnist")
def test_a_damaged_file_is_renamed_and_downloaded_again(
    mirror: MirrorServer, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.serve_folder(TINY)
    path = data_dir / f"{IMAGES}.gz"
    good = path.read_bytes()
    for number in (1, 2):
        path.write_bytes(good[:-number])
        download_dataset(data_dir, [mirror.url])
        assert path.read_bytes() == good
        assert (data_dir / f"{IMAGES}.gz.damaged-{number}").read_bytes() == good[:-number]
    assert mirror.requests == [path.name] * 2
    assert f"damaged: {path}: gzip is truncated: found 3,152 unpacked bytes, expected 3,152" in caplog.messages
    assert f"{path} is kept as {IMAGES}.gz.damaged-2" in caplog.messages


def test_a_damaged_file_keeps_its_name_until_it_can_be_replaced(data_dir: Path) -> None:
    (data_dir / f"{LABELS}.gz").write_bytes(HTML)
    with pytest.raises(DownloadError):
        download_dataset(data_dir, ["file:///no/such/folder"], pinned=False)
    assert (data_dir / f"{LABELS}.gz").read_bytes() == HTML and len(list(data_dir.iterdir())) == 4


def test_a_good_file_beside_a_damaged_one_causes_no_request(mirror: MirrorServer, data_dir: Path) -> None:
    (data_dir / LABELS).write_bytes(raw(LABELS))
    (data_dir / f"{LABELS}.gz").write_bytes(HTML)
    with pytest.raises(IdxFormatError, match=f"{LABELS}.gz: begins with"):
        load_dataset(data_dir, pinned=False)
    download_dataset(data_dir, [mirror.url], pinned=False)
    assert mirror.requests == [] and (data_dir / f"{LABELS}.gz.damaged-1").read_bytes() == HTML
    assert load_dataset(data_dir, pinned=False).train_labels.tolist() == [5, 0, 4, 1]


def test_a_missing_or_unreadable_file_is_named(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=rf"{data_dir}: found neither {LABELS}\.gz nor {LABELS}\. .*`gan download "):
        validate_dataset(data_dir, pinned=False)
    (data_dir / LABELS).mkdir()
    with pytest.raises(DataError, match=rf"{data_dir / LABELS} is no regular file\. Remove it"):
        download_dataset(data_dir, pinned=False)
    with pytest.raises(DataError, match=r"cannot be read \(Not a directory\)"):
        download_dataset(data_dir / f"{IMAGES}.gz", pinned=False)


def test_several_processes_may_download_at_once(mirror: MirrorServer, data_dir: Path) -> None:
    mirror.serve_folder(TINY)
    for name in (IMAGES, LABELS):
        (data_dir / f"{name}.gz").write_bytes(HTML)
    (data_dir / f"{TEST_IMAGES}.gz").unlink()
    code = (
        "import pathlib, sys; from gan.data.download import download_dataset; "
        "download_dataset(pathlib.Path(sys.argv[1]), sys.argv[2:], pinned=False)"
    )
    command = [sys.executable, "-c", code, str(data_dir), mirror.url]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert load_dataset(data_dir, pinned=False).test_labels.tolist() == [7, 2, 1, 0]
    assert not [path for path in data_dir.iterdir() if "tmp" in path.name]
    aside = {path.name: path.read_bytes() for path in data_dir.glob("*.damaged-*")}
    assert aside == {f"{IMAGES}.gz.damaged-1": HTML, f"{LABELS}.gz.damaged-1": HTML}


@pytest.mark.mnist
def test_the_real_files(mirror: MirrorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert mirrors_from_env(), "name a mirror of MNIST in GAN_MNIST_MIRRORS"
    paths = download_dataset(tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert data.train_images.shape == (60_000, 28, 28) and data.test_images.shape == (10_000, 28, 28)
    assert np.bincount(data.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.sha256 == {file.name: file.sha256 for file in FILES}
    assert {name: check.sha256 for name, check in validate_dataset(tmp_path / "data").items()} == data.sha256
    assert download_dataset(tmp_path / "data", [mirror.url]) == paths and mirror.requests == []


@pytest.mark.mnist
def test_the_tiny_files_are_the_first_of_the_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    download_dataset(tmp_path / "data")
    make(tmp_path / "data", tmp_path)
    for name in NAMES:
        assert gzip.decompress((tmp_path / f"{name}.gz").read_bytes()) == raw(name)
    assert NUM_ITEMS == 4
