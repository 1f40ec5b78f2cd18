"""Where do the credentials for a bucket come from?

boto3 asks its providers one after the other: variables, profiles, processes, files, services. A provider may raise any
exception, with the output of a process in it. This module turns each into a StorageError without that output. It does
so for every request, also in the threads that upload and that renew a lease.
"""

import logging
from typing import Any

import boto3
import botocore.session
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from gan.errors import StorageError
from gan.storage.masking import masked, remember
from gan.storage.s3_settings import check_variables, fault_of_credential

MIN_KEY_ID = 16  # characters; a shorter key id is a name like "admin", which messages need
SOURCES = {
    "custom-process": (
        "credential_process of the profile",
        "Correct it in AWS_CONFIG_FILE: it names a program that prints JSON with Version 1, AccessKeyId and "
        "SecretAccessKey.",
    ),
    "assume-role-with-web-identity": (
        "the web identity",
        "Check AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, or the same in the profile.",
    ),
    "container-role": (
        "the container's credential service",
        "Check AWS_CONTAINER_CREDENTIALS_FULL_URI (or ..._RELATIVE_URI) and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE.",
    ),
    "iam-role": (
        "the machine's metadata service",
        "Check the AWS_METADATA_SERVICE_... and AWS_EC2_METADATA_... variables, or set AWS_EC2_METADATA_DISABLED=true.",
    ),
    "sso": ("single sign-on", "Log in with `aws sso login`, for the same profile."),
    "login": ("the login of the profile", "Log in with `aws login`, for the same profile."),
    "assume-role": ("the role of the profile", "Correct role_arn and what it needs in AWS_CONFIG_FILE."),
    "env": ("the environment", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
}
OTHER_SOURCE = ("the profile", "Correct it in AWS_SHARED_CREDENTIALS_FILE or AWS_CONFIG_FILE.")

for _name in ("botocore.credentials", "botocore.tokens"):  # they log the traceback of an error that they raise too
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def open_session(address: str) -> boto3.session.Session:
    """Return a boto3 session. Where its credentials fail, it raises a StorageError that names the address.

    Raises:
        StorageError: a variable cannot be right.
        BotoCoreError, ValueError: a profile is missing, or a value in it is invalid.
    """
    check_variables()
    session = botocore.session.get_session()
    try:
        resolver = session.get_component("credential_provider")
    except ValueError as error:  # a profile has metadata_service_timeout = abc
        raise StorageError(
            f"{address} cannot be reached: a number in the profile is invalid ({masked(str(error))}). "
            "Correct it in AWS_CONFIG_FILE."
        ) from error
    if session.get_config_variable("region") == "":
        raise StorageError(f"{address} cannot be reached: region is empty in the profile. Set it, or delete the line.")
    session.register_component("credential_provider", _Resolver(address, resolver.providers))
    return boto3.session.Session(botocore_session=session)


class _Resolver:
    """Ask the providers for credentials in boto3's order."""

    def __init__(self, address: str, providers: list[Any]) -> None:
        self._address = address
        self._providers = providers

    def load_credentials(self) -> "_Credentials | None":
        """Return the credentials of the first provider that has some."""
        for provider in self._providers:
            try:
                found = provider.load()
            except Exception as error:  # noqa: BLE001 - any, see above
                raise _failure(self._address, provider.METHOD, error) from None
            if found is not None:
                return _Credentials(self._address, found)
        return None


class _Credentials:
    """Credentials of boto3. Each request takes them by `get_frozen_credentials`, which gets new ones in time."""

    def __init__(self, address: str, found: Any) -> None:
        self._address = address
        self._found = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def get_frozen_credentials(self) -> Any:
        """Return key id, secret and token. Raises StorageError if there are none, or they are malformed."""
        try:
            frozen = self._found.get_frozen_credentials()
        except Exception as error:  # noqa: BLE001 - any, see above
            raise _failure(self._address, self._found.method, error) from None
        parts = {"access key id": frozen.access_key, "secret access key": frozen.secret_key}
        if frozen.token is not None:
            parts["session token"] = frozen.token
        source, remedy = SOURCES.get(self._found.method, OTHER_SOURCE)
        for part, value in parts.items():
            empty = None if value or part == "session token" else "is empty"
            if fault := empty or fault_of_credential(value):
                raise StorageError(f"{self._address} cannot be used: the {part} of {source} {fault}. {remedy}")
        remember(frozen.secret_key, frozen.token, frozen.access_key if len(frozen.access_key) >= MIN_KEY_ID else None)
        return frozen


def _failure(address: str, method: str, error: Exception) -> StorageError:
    """Return the StorageError for what a provider raised."""
    source, remedy = SOURCES.get(method, OTHER_SOURCE)
    return StorageError(f"{address} cannot be used: {source} gives no credentials ({_reason(method, error)}). {remedy}")


def _reason(method: str, error: Exception) -> str:
    """Return why a provider failed, without what it read or what a process printed."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {masked(str(error.filename))}" if error.filename else error.strerror
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "refused"))
    if isinstance(error, RuntimeError):
        return "they have expired"
    if isinstance(error, CredentialRetrievalError):
        return "it fails, or its answer has none"
    if method == "custom-process":
        return "it does not print the JSON that is expected"
    known = isinstance(error, BotoCoreError | ValueError) and not isinstance(error, UnicodeError)
    return masked(" ".join(str(error).split())).rstrip(".") if known else f"they cannot be read: {type(error).__name__}"
