"""Does the Prefect API of the settings answer, and does it let us in?"""

import logging
from collections.abc import Callable
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
)

from flows.prefect_settings import ENVIRONMENT, source_of
from gan.errors import GanError, SettingError
from gan.storage.masking import masked, masked_url

NO_ENTRY = (401, 403)
HASTE = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: 10.0}  # it asks again soon; a stop must not wait

log = logging.getLogger(__name__)


class ServerError(GanError):
    """A Prefect API that does not answer."""


class RefusedError(ServerError):
    """A Prefect API that answers, but cannot be used with these settings. Waiting does not help."""


def check_api() -> None:
    """Ask the API of Prefect's settings for its version.

    Raises:
        ServerError: it does not answer.
        RefusedError: it refuses the password, or there is no Prefect API at that address.
        SettingError: PREFECT_API_URL is not set, or the file of certificates cannot be read.
    """
    if not PREFECT_API_URL.value():
        raise SettingError(
            "PREFECT_API_URL is not set. Start a server with `prefect server start`, and set PREFECT_API_URL to its "
            "address, such as http://127.0.0.1:4200/api."
        )
    try:
        _ask()
    except httpx.HTTPStatusError as error:
        raise _status_error(error) from error
    except (ValueError, httpx.InvalidURL, httpx.TooManyRedirects) as error:  # not JSON: a web page
        raise RefusedError(_no_api(str(error))) from error
    except httpx.HTTPError as error:
        if "SSL" in str(error):
            raise RefusedError(_no_tls(str(error))) from error
        raise ServerError(_silent(masked(str(error)) or type(error).__name__)) from error
    except OSError as error:
        file = PREFECT_API_SSL_CERT_FILE.value()
        raise SettingError(f"PREFECT_API_SSL_CERT_FILE is {file!r}, which cannot be used: {error}.") from error


def wait_for_api(wait: Callable[[], bool]) -> None:
    """Ask until the API answers. `wait` waits a moment, and returns whether to give up.

    Raises:
        GanError: as check_api does.
    """
    said = ""
    while True:
        try:
            return check_api()
        except RefusedError:
            raise
        except ServerError as error:
            if str(error) != said:
                said = str(error)
                log.warning("waiting: %s", said)
            if wait():
                raise


def _ask() -> None:
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            raise error
        if client.server_type != ServerType.CLOUD:  # which has no version
            client.api_version()


def _status_error(error: httpx.HTTPStatusError) -> ServerError:
    status = error.response.status_code
    if status in NO_ENTRY:
        return RefusedError(_no_entry(status))
    if status < 500:
        return RefusedError(_no_api(f"it answers {status}"))
    return ServerError(_silent(f"it answers {status}"))


def _no_entry(status: int) -> str:
    name, secret = "PREFECT_API_AUTH_STRING", PREFECT_API_AUTH_STRING.value()
    if not secret and PREFECT_API_KEY.value():
        name, secret = "PREFECT_API_KEY", PREFECT_API_KEY.value()
    if secret:
        return f"{_api()} refuses what {name} has ({status}). Correct {name} (set in {source_of(name)})."
    return (
        f"{_api()} asks for a password ({status}), and none is set. Set PREFECT_API_AUTH_STRING to USER:PASSWORD of "
        "that server, or PREFECT_API_KEY for Prefect Cloud."
    )


def _no_api(found: str) -> str:
    url, where = masked_url(PREFECT_API_URL.value() or ""), source_of("PREFECT_API_URL")
    other = "" if "/api" in url else f" The address ends with /api: set it to {url.rstrip('/')}/api."
    return f"Prefect's API is not at {url}{_by_proxy()} ({found}). Correct PREFECT_API_URL (set in {where}).{other}"


def _no_tls(found: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in found:
        advice = "Set PREFECT_API_SSL_CERT_FILE to the certificate of the authority that has signed the server's."
    else:
        where = source_of("PREFECT_API_URL")
        advice = (
            f"A server without TLS has an address that begins with http://: correct PREFECT_API_URL (set in {where})."
        )
    return f"{_api()} cannot be asked by TLS ({found}). {advice}"


def _silent(found: str) -> str:
    return f"{_api()} does not answer ({found}). {_start_it()}"


def _start_it() -> str:
    where = source_of("PREFECT_API_URL")
    if where == ENVIRONMENT:
        return "Start that server, or unset PREFECT_API_URL: gan-train then starts its own server."
    return (
        f"Start that server, or correct PREFECT_API_URL in {where}. With an empty PREFECT_API_URL in the environment, "
        "gan-train starts its own server."
    )


def _api() -> str:
    return f"Prefect's API at {masked_url(PREFECT_API_URL.value() or '')}{_by_proxy()}"


def _by_proxy() -> str:
    """Name the proxy that is asked in the server's place, if there is one. Its address may have a password."""
    url = urlsplit(PREFECT_API_URL.value() or "")
    kind = next((kind for kind in (url.scheme, "all") if kind in getproxies()), None)
    if kind is None or proxy_bypass(url.hostname or ""):
        return ""
    return f", asked through the proxy of {kind}_proxy (add {url.hostname} to NO_PROXY to ask it directly),"
