"""Which sentence does an API that cannot be used give, and when does waiting for it help?"""

from typing import Any

import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    temporary_settings,
)

from flows.api import RefusedError, ServerError, check_api
from gan.errors import GanError, SettingError
from tests.support.answers import HEALTHY, LOCKED, server


def error_of(url: str, settings: dict[Any, Any] | None = None) -> GanError:
    with temporary_settings({PREFECT_API_URL: url, **(settings or {})}), pytest.raises(GanError) as caught:
        check_api()
    return caught.value


NOT_THERE = "Prefect's API is not at "


def test_a_server_that_lets_us_in(api: str) -> None:
    with temporary_settings({PREFECT_API_URL: api}):
        check_api()


@pytest.mark.parametrize(
    ("answers", "path", "message"),
    [
        (LOCKED, "/api", "asks for a password (401), and none is set. Set PREFECT_API_AUTH_STRING to USER:PASSWORD"),
        (HEALTHY, "", NOT_THERE),
        (HEALTHY | {"/api/admin/version": (200, "<html>")}, "/api", NOT_THERE),
        ({"/health": (200, "<html>"), "/admin/version": (200, "<html>")}, "", NOT_THERE),
        ({"/health": (405, "")}, "/", NOT_THERE),
    ],
)
def test_an_api_that_refuses(answers: dict[str, tuple[int, str]], path: str, message: str) -> None:
    with server(answers) as address:
        error = error_of(address + path)
        hint = f"The address ends with /api: set it to {address}/api."
        assert isinstance(error, RefusedError)
        assert message in str(error)
        assert (hint in str(error)) == (path != "/api")


@pytest.mark.parametrize("name", ["PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"])
def test_a_password_that_is_refused_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "s3cret")
    setting = {"PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING, "PREFECT_API_KEY": PREFECT_API_KEY}[name]
    with server(LOCKED) as address:
        said = str(error_of(f"{address}/api", {setting: "s3cret"}))
    assert said.endswith(f"refuses what {name} has (401). Correct {name} (set in the environment).")
    assert "s3cret" not in said


def test_an_api_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    error = error_of("http://me:s3cret@127.0.0.1:9/api")
    assert isinstance(error, ServerError)
    assert not isinstance(error, RefusedError)
    assert "Prefect's API at http://***@127.0.0.1:9/api does not answer" in str(error)
    assert "in Prefect's settings. With an empty PREFECT_API_URL in the environment, gan-train starts" in str(error)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert "or unset PREFECT_API_URL" in str(error_of("http://127.0.0.1:9/api"))


def test_the_proxy_that_is_asked_in_its_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:s3cret@127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    said = str(error_of("http://there/api"))
    assert "asked through the proxy of http_proxy (add there to NO_PROXY to ask it directly), does not answer" in said
    assert "s3cret" not in said
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "proxy" not in str(error_of("http://127.0.0.1:9/api"))


def test_a_server_without_tls_is_not_waited_for() -> None:
    with server(HEALTHY) as address:
        error = error_of(f"{address.replace('http:', 'https:')}/api")
    assert isinstance(error, RefusedError)
    assert "A server without TLS has an address that begins with http://: correct PREFECT_API_URL" in str(error)


def test_no_address() -> None:
    error = error_of("")
    assert isinstance(error, SettingError)
    assert "PREFECT_API_URL is not set" in str(error)


def test_a_file_of_certificates_that_is_not_there() -> None:
    error = error_of("https://127.0.0.1:9/api", {PREFECT_API_SSL_CERT_FILE: "/no/such/file"})
    assert "PREFECT_API_SSL_CERT_FILE is '/no/such/file', which cannot be used" in str(error)
