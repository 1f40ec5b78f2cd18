"""Does the message for every boto3 error name the place and a remedy, and no secret?"""

import inspect
import ssl
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import botocore.auth
import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

from gan.errors import StorageError
from gan.files import sha256_file
from gan.storage import s3_errors
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.storage.s3 import S3Store
from gan.storage.s3_errors import BY_EXCEPTION, UNKNOWN, Location, Meaning, meaning_of, storage_error
from tests.gan.data.test_web_tls import certificate as certificate
from tests.support.mirror_server import MirrorServer
from tests.support.s3_server import ADMIN, READER, S3Server, free_ports, new_address
from tests.support.tcp_proxy import proxy_to

HERE = Path(__file__)
LOCATION = Location("bucket", "runs/a/config.json", "https://user:pass@s3.example")
EXCEPTIONS = [
    kind
    for _, kind in inspect.getmembers(botocore.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and not issubclass(kind, Warning)
]
USES: dict[str, Callable[[Store], object]] = {
    "put_new": lambda store: store.put_new("runs/a/config.json", b"{}"),
    "put": lambda store: store.put("runs/a/config.json", HERE, sha256_file(HERE)),
    "read": lambda store: store.read("runs/a/config.json"),
    "get": lambda store: list(store.get("runs/a/config.json")),
    "list": lambda store: list(store.list("runs/a/")),
    "delete": lambda store: store.delete("runs/a/config.json"),
    "sweep": lambda store: store.sweep("runs/a/"),
}


def client_error(code: str, status: int = 400, **answer: str) -> ClientError:
    headers = {"date": "Mon, 23 Nov 2026 19:00:00 GMT"}
    response = {
        "Error": {"Code": code, **answer},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return ClientError(response, "PutObject")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_every_exception_of_botocore_is_mapped(kind: type[Exception]) -> None:
    assert kind.__name__ in BY_EXCEPTION, f"{kind.__name__} is new in botocore: give it a meaning in gan/s3_errors.py"
    assert issubclass(kind, s3_errors.BOTO_ERRORS)


def test_nothing_else_is_mapped() -> None:
    newest = {kind.__name__ for kind in EXCEPTIONS}
    assert set(BY_EXCEPTION) <= newest, "botocore has dropped these"


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (client_error("NoSuchBucket", 404), s3_errors.NO_BUCKET),
        (client_error("403", 403), s3_errors.DENIED),
        (client_error("SomethingNew", 403), s3_errors.DENIED),
        (client_error("SomethingNew", 503), s3_errors.FAILING),
        (client_error("SomethingNew", 418), UNKNOWN),
        (client_error("SignatureDoesNotMatch", 403), s3_errors.REFUSED_CREDENTIALS),
        (client_error("PermanentRedirect", 301), s3_errors.REGION),
        (botocore.exceptions.SSLError(endpoint_url="https://h", error="x"), s3_errors.TLS),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="https://h"), s3_errors.UNREACHABLE),
        (type("NewConnectionError", (botocore.exceptions.ConnectionError,), {})(error="x"), s3_errors.UNREACHABLE),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_an_error_means(error: Exception, meaning: Meaning) -> None:
    assert meaning_of(error) is meaning


def test_a_wrong_region_and_a_wrong_clock_say_what_is_right() -> None:
    region = storage_error(
        client_error("AuthorizationHeaderMalformed", Region="eu-west-1", Message="bad."), LOCATION, "put"
    )
    assert "(AuthorizationHeaderMalformed: bad. It is in eu-west-1). Set AWS_DEFAULT_REGION" in str(region)
    clock = storage_error(client_error("RequestTimeTooSkewed", 403, Message="bad."), LOCATION, "put")
    assert "The store says Mon, 23 Nov 2026 19:00:00 GMT). Set this machine's clock" in str(clock)


def test_a_message_names_bucket_key_and_endpoint_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t0ken")
    text = str(
        storage_error(client_error("Odd", 418, Message="t0ken at https://u:p@h " + "x" * 1000), LOCATION, "stored")
    )
    assert text.startswith(
        "s3://bucket/runs/a/config.json at https://***@s3.example cannot be stored: the store refuses"
    )
    assert "(Odd: *** at https://***@h xxx" in text
    assert len(text) < 700


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_missing_bucket_is_named(s3: S3Server, use: Callable[[Store], object]) -> None:
    message = explain(lambda: use(S3Store("no-such-bucket")))
    assert message.startswith("s3://no-such-bucket/runs/a/")
    assert f" at {s3.url} cannot be " in message and "there is no such bucket (NoSuchBucket" in message


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ((ADMIN[0], "wrong-secret-that-no-message-may-show"), "does not accept the credentials (SignatureDoesNotMatch"),
        (("nobody", "some-secret-that-no-message-may-show"), "does not accept the credentials (InvalidAccessKeyId"),
    ],
)
def test_wrong_credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str], reason: str) -> None:
    s3.use(monkeypatch, keys=keys)
    for name in ("put_new", "read", "list"):
        assert reason in explain(lambda name=name: USES[name](open_store(new_address())))


def test_a_reader_may_not_write(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seaweedfs.use(monkeypatch, keys=READER)
    message = explain(lambda: USES["put_new"](open_store("s3://gan/readers")))
    assert message.startswith(
        f"s3://gan/readers/runs/a/config.json at {seaweedfs.url} cannot be created: access is denied"
    )


def test_no_credentials_at_all(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seaweedfs.use(monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    message = explain(lambda: USES["list"](open_store("s3://gan")))
    assert "no usable credentials were found. Set AWS_ACCESS_KEY_ID and" in message


def test_a_clock_that_is_wrong(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *args: now(*args) + timedelta(hours=1))
    assert "clock and the store's differ too much (RequestTimeTooSkewed" in explain(
        lambda: USES["put_new"](open_store("s3://gan"))
    )


def test_an_endpoint_that_is_down(monkeypatch: pytest.MonkeyPatch, seaweedfs: S3Server) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    seaweedfs.use(monkeypatch, url)
    message = explain(lambda: USES["list"](open_store("s3://gan")))
    assert message.startswith(f"s3://gan/runs/a/ at {url} cannot be listed: the store cannot be reached")


def test_an_endpoint_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, seaweedfs: S3Server) -> None:
    monkeypatch.setattr("gan.storage.s3.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 2)
    with proxy_to(seaweedfs.port) as proxy:
        proxy.delay_seconds = 2
        seaweedfs.use(monkeypatch, proxy.url)
        began = time.monotonic()
        assert "cannot be reached, or does not answer (Read timeout" in explain(
            lambda: USES["list"](open_store("s3://gan"))
        )
        assert time.monotonic() - began < 4


def test_tls_where_there_is_none(monkeypatch: pytest.MonkeyPatch, seaweedfs: S3Server) -> None:
    seaweedfs.use(monkeypatch, seaweedfs.url.replace("http:", "https:"))
    assert "no trusted TLS connection can be made" in explain(lambda: USES["list"](open_store("s3://gan")))


def test_tls_of_a_stranger(monkeypatch: pytest.MonkeyPatch, seaweedfs: S3Server, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    stranger = MirrorServer(context)
    seaweedfs.use(monkeypatch, stranger.url)
    message = explain(lambda: USES["read"](open_store("s3://gan")))
    stranger.close()
    assert "no trusted TLS connection can be made" in message and "AWS_CA_BUNDLE" in message


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        (
            "AWS_ENDPOINT_URL_S3",
            "127.0.0.1:9000",
            "s3://gan cannot be reached: Invalid endpoint: 127.0.0.1:9000. Correct",
        ),
        ("AWS_PROFILE", "nobody", "boto3's settings are invalid (The config profile (nobody) could not be found)"),
        ("AWS_DEFAULT_REGION", "no region", "boto3's settings are invalid"),
    ],
)
def test_settings_that_make_no_sense(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    seaweedfs.use(monkeypatch)
    monkeypatch.setenv(variable, value)
    assert reason in explain(lambda: USES["list"](open_store("s3://gan")))


def test_a_bucket_that_cannot_be_one(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seaweedfs.use(monkeypatch)
    assert "this is not a valid S3 address" in explain(lambda: USES["list"](S3Store("A bucket!")))


def explain(use: Callable[[], object]) -> str:
    """Return the message of the StorageError that a use ends in; no secret is in it, or in its traceback."""
    with pytest.raises(StorageError) as caught:
        use()
    shown = "".join(traceback.format_exception(caught.value))
    assert "secret-that-no-message-may-show" not in shown
    return str(caught.value)
