"""Are the variables that lead to a bucket usable?"""

import os
from urllib.parse import urlsplit

from gan.errors import StorageError
from gan.storage.masking import masked_url
from gan.storage.proxies import fault_of_proxies

PUBLIC_ENDPOINT = "S3_PUBLIC_ENDPOINT_URL"
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
NOT_EMPTY = ("AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
COUNTS = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")
OTHERS = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
)  # fmt: skip


def check_variables() -> None:
    """Raise StorageError for a variable of boto3 that cannot be right. The message never has its value."""
    for name in (*CREDENTIALS, *NOT_EMPTY, *COUNTS, *OTHERS):
        if (value := os.environ.get(name)) is not None and (fault := _fault_of(name, value)):
            raise StorageError(f"{name} {fault}. Set it again, or unset it.")
    if fault := fault_of_proxies():
        raise StorageError(fault)


def check_public_endpoint() -> str | None:
    """Return the address of the bucket as browsers see it; None where the variable is not set.

    Raises:
        StorageError: it is not http(s)://HOST[:PORT][/PATH], or it has a password, which a link would show.
    """
    url = os.environ.get(PUBLIC_ENDPOINT)
    if url and (fault := control_character(url) or _fault_of_url(url)):
        raise StorageError(f"{PUBLIC_ENDPOINT} {fault}. Set it to http(s)://HOST[:PORT].")
    return url or None


def fault_of_credential(value: object) -> str | None:
    """Return what is wrong with a key id, a secret or a token, as the predicate of a sentence."""
    if not isinstance(value, str):
        return "is not a text"
    if fault := control_character(value):
        return fault
    if value != value.strip():
        return "begins or ends with a blank"
    return None if value.isascii() else "has a character that is not ASCII"


def control_character(value: str) -> str | None:
    """Return where a text has a line end or another control character."""
    if value.endswith(("\r", "\n")):
        return "ends with a line end"
    return "has a control character in it" if any(ord(each) < 32 or ord(each) == 127 for each in value) else None


def _fault_of(name: str, value: str) -> str | None:
    if name in CREDENTIALS:
        return fault_of_credential(value)
    if name in NOT_EMPTY and not value:
        return "is empty"
    if name in COUNTS and not (value.isdecimal() and int(value)):
        return "is not a whole number above 0"
    return control_character(value)


def _fault_of_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and " " not in url
    except ValueError:
        valid = False
    if "@" in url:
        return "has a user or a password in it, which each link would show"
    return None if valid and not (parts.query or parts.fragment) else f"is not an address: {masked_url(url)!r}"
