"""Are the variables that lead to a bucket usable?"""

import os

from gan.errors import StorageError

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


def fault_of_credential(value: object) -> str | None:
    """Return what is wrong with a key id, a secret or a token, as the predicate of a sentence."""
    if not isinstance(value, str):
        return "is not a text"
    if fault := _control_character(value):
        return fault
    if value != value.strip():
        return "begins or ends with a blank"
    return None if value.isascii() else "has a character that is not ASCII"


def _control_character(value: str) -> str | None:
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
    return _control_character(value)
