"""What does a bucket hold, what is sent, and what happens at damage and broken connections?"""

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from gan.errors import ChecksumError, StorageError
from gan.storage.address import is_remote, open_store
from gan.storage.local import LocalStore
from gan.storage.s3 import S3Store
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.publishing import publish
from tests.support.s3_server import BUCKET, READER, REGION, S3Server, admin_client, new_address
from tests.support.small_run import NAMES, tree, write_run
from tests.support.tcp_proxy import TcpProxy, proxy_to

KEY = "runs/a/checkpoints/step-001000.safetensors"
PART = 5 << 20  # S3's smallest
LARGE = random.Random(0).randbytes(2 * PART + 1000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    """Come between boto3 and the server."""
    with proxy_to(s3.port) as proxy:
        s3.use(monkeypatch, proxy.url)
        yield proxy


@pytest.fixture
def store(proxy: TcpProxy) -> S3Store:
    return S3Store(BUCKET, new_address().removeprefix(f"s3://{BUCKET}/"), part_bytes=PART)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(LARGE)
    return path


def raw(s3: S3Server, store: S3Store, key: str) -> dict[str, Any]:
    """Return the arguments that name an object to boto3's own client."""
    return {"Bucket": BUCKET, "Key": f"{store.address.removeprefix(f's3://{BUCKET}/')}/{key}"}


def open_uploads(s3: S3Server, store: S3Store) -> list[str]:
    """Return the ids of the uploads in parts of KEY that are open."""
    named = raw(s3, store, KEY)
    answer = admin_client(s3).list_multipart_uploads(Bucket=BUCKET, Prefix=named["Key"])
    return [upload["UploadId"] for upload in answer.get("Uploads", ())]


def begin_upload(s3: S3Server, store: S3Store) -> None:
    """Begin a multipart upload, like a writer that is then killed."""
    client, named = admin_client(s3), raw(s3, store, KEY)
    upload_id = client.create_multipart_upload(**named)["UploadId"]
    client.upload_part(**named, UploadId=upload_id, PartNumber=1, Body=LARGE[:PART])


def test_an_object_carries_its_sha256_and_its_type(s3: S3Server, store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    store.put("runs/a/report/index.html", tmp_path / "index.html", sha256(b"<!doctype html>"))
    head = admin_client(s3).head_object(**raw(s3, store, "runs/a/report/index.html"), ChecksumMode="ENABLED")
    assert head["Metadata"] == {"sha256": sha256(b"<!doctype html>")}
    assert head["ChecksumSHA256"] and head["ContentType"] == "text/html"


def test_an_object_that_exists_is_not_sent_again(proxy: TcpProxy, store: S3Store, source: Path) -> None:
    store.put(KEY, source, sha256(LARGE))
    proxy.requests.clear()
    sent = proxy.bytes_sent
    store.put(KEY, source, sha256(LARGE))
    assert [line.split()[0] for line in proxy.requests] == ["HEAD"]
    assert proxy.bytes_sent - sent < 2000


def test_a_large_file_is_sent_in_parts(s3: S3Server, proxy: TcpProxy, store: S3Store, source: Path) -> None:
    store.put(KEY, source, sha256(LARGE))
    assert b"".join(store.get(KEY)) == store.read(KEY) == LARGE
    assert sum("partNumber=" in line for line in proxy.requests) == 3
    assert open_uploads(s3, store) == []
    assert len(LARGE) < proxy.bytes_sent < 1.01 * len(LARGE)


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART])
def test_a_file_of_about_a_part(store: S3Store, source: Path, size: int) -> None:
    source.write_bytes(LARGE[:size])
    store.put(KEY, source, sha256(LARGE[:size]))
    assert b"".join(store.get(KEY)) == LARGE[:size]


def test_a_large_file_with_another_hash_leaves_nothing(s3: S3Server, store: S3Store, source: Path) -> None:
    with pytest.raises(StorageError, match="source changed while it was published"):
        store.put(KEY, source, sha256(b"other"))
    assert open_uploads(s3, store) == [] and list(store.list("")) == []


def test_a_large_file_whose_upload_fails_leaves_nothing(
    s3: S3Server, proxy: TcpProxy, store: S3Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        proxy.refuse()
        monkeypatch.undo()
        s3.use(monkeypatch, proxy.url)
        store._client.upload_part(Bucket=BUCKET, Key="x", UploadId="x", PartNumber=1, Body=b"")

    monkeypatch.setattr(store._client, "upload_part", fail)
    with pytest.raises(StorageError, match=f"{KEY} at .* cannot be stored: the store cannot be reached"):
        store.put(KEY, source, sha256(LARGE))
    assert len(open_uploads(s3, store)) == 1  # nobody could be asked to drop it
    proxy.accept()
    store.put(KEY, source, sha256(LARGE))
    store.sweep("runs/a/")
    assert open_uploads(s3, store) == [] and store.read(KEY) == LARGE


def test_a_sweep_drops_the_parts_of_killed_writers(s3: S3Server, store: S3Store, source: Path) -> None:
    begin_upload(s3, store)
    store.put(KEY, source, sha256(LARGE))
    assert len(open_uploads(s3, store)) == 1
    store.sweep("runs/ab/")
    assert len(open_uploads(s3, store)) == 1
    store.sweep("runs/a/")
    assert open_uploads(s3, store) == [] and store.read(KEY) == LARGE


def test_a_swept_upload_succeeds_if_the_object_exists(
    s3: S3Server, store: S3Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_part = store._client.upload_part

    def swept_meanwhile(**arguments: Any) -> Any:
        monkeypatch.setattr(store._client, "upload_part", upload_part)
        store.put(KEY, source, sha256(LARGE))
        store.sweep("runs/a/")
        return upload_part(**arguments)

    monkeypatch.setattr(store._client, "upload_part", swept_meanwhile)
    store.put(KEY, source, sha256(LARGE))
    assert open_uploads(s3, store) == [] and store.read(KEY) == LARGE


@pytest.mark.parametrize("cut_after", [100_000, 3_000_000, 2 * PART])
def test_a_download_that_is_cut_continues_from_there(
    proxy: TcpProxy, store: S3Store, source: Path, cut_after: int
) -> None:
    store.put(KEY, source, sha256(LARGE))
    proxy.requests.clear()
    proxy.cut_after = cut_after
    assert b"".join(store.get(KEY)) == LARGE
    assert len(proxy.requests) == 2 and proxy.cut_after is None


def test_a_store_that_becomes_unreachable_during_a_read_is_named(proxy: TcpProxy, store: S3Store, source: Path) -> None:
    store.put(KEY, source, sha256(LARGE))
    chunks = store.get(KEY)
    next(chunks)
    proxy.refuse()
    with pytest.raises(StorageError, match=f"{KEY} at {proxy.url} cannot be read: the store cannot be reached"):
        list(chunks)


def test_damage_is_found_during_a_download(s3: S3Server, store: S3Store, source: Path) -> None:
    store.put(KEY, source, sha256(LARGE))
    damaged = b"X" + LARGE[1:]
    admin_client(s3).put_object(**raw(s3, store, KEY), Body=damaged, Metadata={"sha256": sha256(LARGE)})
    for read in (lambda: list(store.get(KEY)), lambda: store.read(KEY)):
        with pytest.raises(ChecksumError, match=f"{KEY} .* expected {sha256(LARGE)}, found {sha256(damaged)}"):
            read()


def test_a_published_run_is_verified_from_the_bucket_by_a_reader(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seaweedfs.use(monkeypatch)
    address = new_address()
    publish(write_run(tmp_path / "run"), StoredRun(open_store(address), "a"))
    seaweedfs.use(monkeypatch, keys=READER)
    found = verify(StoredRun.at(f"{address}/runs/a"))
    assert found.problems == [] and found.num_files == len(NAMES)


@pytest.mark.parametrize("metadata", [True, False])
def test_a_flipped_byte_in_any_object_is_found_and_named(s3: S3Server, tmp_path: Path, metadata: bool) -> None:
    store = S3Store(BUCKET, new_address().removeprefix(f"s3://{BUCKET}/"))
    run = tree(write_run(tmp_path / "run"))
    publish(tmp_path / "run", StoredRun(store, "a"))
    for name, content in run.items():
        about = {"Metadata": {"sha256": sha256(content)}} if metadata else {}
        damaged = bytes([content[0] ^ 1]) + content[1:] if content else b"\0"
        admin_client(s3).put_object(**raw(s3, store, f"runs/a/{name}"), Body=damaged, **about)
        assert [problem.file for problem in verify(StoredRun(store, "a")).problems] == [name]
        admin_client(s3).put_object(**raw(s3, store, f"runs/a/{name}"), Body=content, **about)


def test_a_byte_flipped_on_the_servers_disk_is_found_and_named(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 1)
    monkeypatch.setattr("gan.storage.s3.ANSWER_SECONDS", 2)  # SeaweedFS thinks 13 s about it
    store = open_store(new_address())
    write_run(tmp_path / "run")
    weights = random.Random(1).randbytes(100_000)
    (tmp_path / "run/losses.npz").write_bytes(weights)
    publish(tmp_path / "run", StoredRun(store, "a"))
    assert flip_on_disk(s3, weights[:64])
    try:
        found = [str(problem) for problem in verify(StoredRun(store, "a")).problems]
    except StorageError as error:
        found = [str(error)]
    assert len(found) == 1 and "losses.npz" in found[0]


def flip_on_disk(s3: S3Server, needle: bytes) -> bool:
    """Turn one bit over wherever a file of a server has these bytes; an object that was deleted may have them, too."""
    found = False
    for path in s3.data_dir.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for at in [match.start() for match in re.finditer(re.escape(needle), content)]:
            found = True
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([needle[0] ^ 1]))
    return found


def test_many_pages_are_listed(store: S3Store) -> None:
    events = store._client.meta.events
    events.register("before-parameter-build.s3.ListObjectsV2", lambda params, **_: params.update(MaxKeys=3))
    for number in range(10):
        store.put_new(f"runs/{number}", b"")
    assert sorted(info.key for info in store.list("runs/")) == [f"runs/{number}" for number in range(10)]


def test_a_folder_that_a_web_console_has_made_is_not_an_object(s3: S3Server, store: S3Store) -> None:
    store.put_new("runs/a/config.json", b"{}")
    named = raw(s3, store, "runs/a")
    admin_client(s3).put_object(Bucket=BUCKET, Key=named["Key"] + "/", Body=b"")
    assert [info.key for info in store.list("runs/")] == ["runs/a/config.json"]


@pytest.mark.parametrize(
    ("address", "is_at"),
    [("s3://gan", "s3://gan"), ("s3://gan/", "s3://gan"), ("s3://gan/a/b/", "s3://gan/a/b"), ("s3://gan/a b", None)],
)
def test_addresses(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, address: str, is_at: str | None) -> None:
    seaweedfs.use(monkeypatch)
    assert open_store(address).address == (is_at or address)
    assert is_remote(address)


@pytest.mark.parametrize(
    "address", ["s3://", "s3:///x", "s3:/bucket", "file:///tmp", "https://h/b", "s3://b/../x", "s3://b//x", "a-file"]
)
def test_an_invalid_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    with pytest.raises(StorageError, match=r"BUCKET|cannot name"):
        open_store(address)
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_a_directory_is_a_local_store(tmp_path: Path) -> None:
    assert isinstance(open_store(tmp_path), LocalStore)
    assert not is_remote(tmp_path) and not is_remote("c:/store")


def test_awss_own_endpoint_has_the_bucket_in_its_name(monkeypatch: pytest.MonkeyPatch, seaweedfs: S3Server) -> None:
    seaweedfs.use(monkeypatch)
    assert S3Store(BUCKET)._client.meta.config.s3 == {"addressing_style": "path"}  # type: ignore[attr-defined]
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    store = S3Store(BUCKET)
    assert store._client.meta.endpoint_url == f"https://s3.{REGION}.amazonaws.com"
    assert store._client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"}).startswith(
        "https://bucket.s3"
    )


def test_a_profile_may_choose_how_a_bucket_is_named(
    monkeypatch: pytest.MonkeyPatch, seaweedfs: S3Server, tmp_path: Path
) -> None:
    seaweedfs.use(monkeypatch)
    (tmp_path / "config").write_text("[default]\ns3 =\n    addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert boto3.session.Session().client("s3").meta.config.s3 == S3Store(BUCKET)._client.meta.config.s3  # type: ignore[attr-defined]
