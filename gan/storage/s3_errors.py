"""What does an error of boto3 mean, and what can the user do about it?

Every exception of botocore is listed here. A test fails when a new version of botocore has one that is not.
"""

from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, UndefinedModelAttributeError
from botocore.parsers import ResponseParserError

from gan.errors import StorageError
from gan.storage.masking import masked, masked_url


class NotS3Error(BotoCoreError):
    """Something else than S3 answers at the endpoint. `found` says what."""

    fmt = "{found}"


BOTO_ERRORS = (BotoCoreError, ClientError, UndefinedModelAttributeError, ResponseParserError)
UNREADABLE = (LookupError, ValueError)  # from boto3 or us, about an answer
MAX_QUOTED = 300  # characters of a message of boto3 or the server


class Location(NamedTuple):
    """The object that a request was about, and the server that it went to."""

    bucket: str
    key: str  # or a prefix; "": the bucket itself
    endpoint: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key} at {masked(masked_url(self.endpoint))}"


class Meaning(NamedTuple):
    """What an error means. `quoted`: the message of botocore or the server is shown too; it has no secret in it."""

    reason: str
    remedy: str
    quoted: bool = True


UNREACHABLE = Meaning(
    "the store cannot be reached, or does not answer",
    "Check that the store runs, the network, and the endpoint (AWS_ENDPOINT_URL_S3); then try again.",
)
PROXY = Meaning(
    "the proxy between here and the store cannot be used",
    "HTTP_PROXY or HTTPS_PROXY names it: correct the address, or the user and the password in it. With the store's "
    "host in NO_PROXY no proxy is used.",
)
TLS = Meaning(
    "no trusted TLS connection can be made",
    "Set AWS_CA_BUNDLE to the file with the authority that signed the store's certificate, or correct the endpoint "
    "(AWS_ENDPOINT_URL_S3): it begins with http:// for a store without TLS, and has the host of the certificate.",
)
CREDENTIALS = Meaning(
    "no usable credentials were found",
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in AWS_SHARED_CREDENTIALS_FILE, or log in again.",
    quoted=False,  # the output of a credential helper may be a secret
)
REFUSED_CREDENTIALS = Meaning(
    "the store does not accept the credentials",
    "Check that the access key and its secret belong to this store, are complete and have not expired.",
)
SETTINGS = Meaning(
    "boto3's settings are invalid",
    "Correct the AWS_... variables, or the profile in AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE.",
)
ADDRESS = Meaning("this is not a valid S3 address", "Give the store as s3://BUCKET or s3://BUCKET/PREFIX.")
DAMAGED = Meaning("it was damaged on the network", "Try again; if it happens often, check the network and the machine.")
INTERNAL = Meaning("boto3 has failed", "Install boto3 again; if that does not help, please report this.")
NO_BUCKET = Meaning("there is no such bucket", "Create it, or correct the store's address or AWS_ENDPOINT_URL_S3.")
NO_OBJECT = Meaning("there is no such object", "Check the address; the object may have been deleted.")
DENIED = Meaning(
    "access is denied",
    "Use credentials that may list, get, put and delete objects in this bucket (to read only: list and get).",
)
REGION = Meaning("the bucket is in another region", "Set AWS_DEFAULT_REGION to the bucket's region.")
CLOCK = Meaning("this machine's clock and the store's differ too much", "Set this machine's clock, for example by NTP.")
FULL = Meaning("the store is full, or a quota is used up", "Make room, for example with `gan prune`; then try again.")
FAILING = Meaning("the store is overloaded or has failed", "Try again later; if it still fails, see the store's log.")
UNSUPPORTED = Meaning(
    "the store lacks a feature that is needed",
    "Use a store with conditional writes (If-None-Match, If-Match) and SHA-256 checksums.",
)
CONDITION = Meaning(
    "the store does not take a write with a condition (If-None-Match, If-Match), which leases and the champion need",
    "Use a store with conditional writes and SHA-256 checksums, or a directory. A proxy before the store may be the "
    "cause, too.",
)
NOT_S3 = Meaning(
    "the answer is not one of S3",
    "Correct the endpoint (AWS_ENDPOINT_URL_S3): it is the address of the S3 API, with https:// where the store uses "
    "TLS. It is not that of a web console (MinIO: often port 9000, not 9001), and no proxy may answer in its place.",
)
UNKNOWN = Meaning("the store refuses the request", "See the store's documentation for this code.")

BY_EXCEPTION = {
    name: meaning
    for meaning, names in (
        (
            UNREACHABLE,
            "ConnectionError ConnectTimeoutError EndpointConnectionError HTTPClientError "
            "ConnectionClosedError ReadTimeoutError ResponseStreamingError IncompleteReadError "
            "CapacityNotAvailableError AwsChunkedWrapperError UnseekableStreamError",
        ),
        (PROXY, "ProxyConnectionError"),
        (TLS, "SSLError"),
        (
            CREDENTIALS,
            "NoCredentialsError PartialCredentialsError CredentialRetrievalError UnknownCredentialError "
            "NoAuthTokenError TokenRetrievalError UnknownTokenProviderError MetadataRetrievalError SSOError "
            "SSOTokenLoadError UnauthorizedSSOTokenError RefreshWithMFAUnsupportedError LoginError "
            "LoginAuthorizationCodeError LoginInsufficientPermissions LoginRefreshRequired LoginTokenLoadError",
        ),
        (
            SETTINGS,
            "ProfileNotFound ConfigNotFound ConfigParseError InvalidConfigError InfiniteLoopConfigError NoRegionError "
            "InvalidRegionError UnknownRegionError UnknownEndpointError BaseEndpointResolverError "
            "EndpointVariantError UnknownFIPSEndpointError EndpointProviderError EndpointResolutionError "
            "UnknownEndpointResolutionBuiltInName InvalidEndpointConfigurationError "
            "InvalidEndpointDiscoveryConfigurationError InvalidHostLabelError InvalidIMDSEndpointError "
            "InvalidIMDSEndpointModeError InvalidDefaultsMode InvalidProxiesConfigError InvalidMaxRetryAttemptsError "
            "InvalidRetryConfigurationError InvalidRetryModeError InvalidS3AddressingStyleError "
            "InvalidS3UsEast1RegionalEndpointConfigError InvalidSTSRegionalEndpointsConfigError "
            "InvalidChecksumConfigError ServiceNotInRegionError UnknownSignatureVersionError "
            "UnsupportedSignatureVersionError UnsupportedS3ConfigurationError",
        ),
        (
            ADDRESS,
            "ParamValidationError ValidationError RangeError UnknownKeyError UnknownParameterError "
            "AliasConflictParameterError MissingParametersError InvalidDNSNameError UnsupportedS3ArnError "
            "UnsupportedS3AccesspointConfigurationError UnsupportedS3ControlArnError "
            "UnsupportedS3ControlConfigurationError UnsupportedOutpostResourceError",
        ),
        (DAMAGED, "ChecksumError FlexibleChecksumError"),
        (
            INTERNAL,
            "BotoCoreError ApiVersionNotFoundError DataNotFoundError UnknownServiceError UnknownServiceStyle "
            "InvalidExpressionError MD5UnavailableError MissingDependencyException MissingServiceIdError "
            "UndefinedModelAttributeError OperationNotPageableError UnknownClientMethodError "
            "UnsupportedServiceProtocolsError WaiterConfigError WaiterError StubResponseError StubAssertionError "
            "UnStubbedResponseError",
        ),
        (NOT_S3, "PaginationError"),  # the same page again and again
        (UNKNOWN, "ClientError EventStreamError"),  # by its code, see BY_CODE
    )
    for name in names.split()
}

BY_CODE = {
    code: meaning
    for meaning, codes in (
        (NO_BUCKET, "NoSuchBucket InvalidBucketName"),
        (NO_OBJECT, "NoSuchKey NoSuchUpload 404"),
        (DENIED, "AccessDenied AllAccessDisabled AccountProblem UnauthorizedAccess Forbidden 401 403"),
        (
            REFUSED_CREDENTIALS,
            "InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken TokenRefreshRequired InvalidToken InvalidTokenId "
            "RequestExpired NotSignedUp InvalidSecurity",
        ),
        (REGION, "AuthorizationHeaderMalformed PermanentRedirect TemporaryRedirect IncorrectEndpoint 301 307"),
        (REGION, "IllegalLocationConstraintException InvalidRegion"),
        (CLOCK, "RequestTimeTooSkewed RequestInTheFuture"),
        (DAMAGED, "BadDigest InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch IncompleteBody"),
        (
            FULL,
            "QuotaExceeded XMinioStorageFull XMinioAdminBucketQuotaExceeded InsufficientCapacity EntityTooLarge 507",
        ),
        (
            FAILING,
            "InternalError ServiceUnavailable SlowDown SlowDownRead SlowDownWrite RequestTimeout OperationAborted",
        ),
        (FAILING, "Throttling ThrottlingException RequestLimitExceeded BandwidthLimitExceeded 429 500 502 503 504"),
        (FAILING, "ConditionalRequestConflict XMinioServerNotInitialized"),
        (PROXY, "407"),
        (UNSUPPORTED, "NotImplemented MethodNotAllowed 405 501"),
    )
    for code in codes.split()
}


def code_of(error: ClientError) -> str:
    """Return the server's error code; for an answer without a body, as to a HEAD, its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_missing(error: ClientError) -> bool:
    """Return whether an error says that there is no such object."""
    return _status_of(error) == 404 and meaning_of(error) is NO_OBJECT


def is_unmet(error: ClientError) -> bool:
    """Return whether an error says that the condition of a write is not met."""
    return code_of(error) == "PreconditionFailed" or _status_of(error) in (304, 412)


def refuses_conditions(error: ClientError) -> bool:
    """Return whether an error to a write with a condition may mean that the store knows no conditions."""
    return meaning_of(error) in (UNKNOWN, UNSUPPORTED)


def meaning_of(error: Exception) -> Meaning:
    """Return the meaning of one of BOTO_ERRORS or UNREADABLE."""
    if isinstance(error, NotS3Error):
        return NOT_S3
    if isinstance(error, ClientError):
        return BY_CODE.get(code_of(error)) or BY_CODE.get(str(_status_of(error))) or UNKNOWN
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((BY_EXCEPTION[name] for name in names if name in BY_EXCEPTION), NOT_S3)


def storage_error(error: Exception, location: Location, done: str, meaning: Meaning | None = None) -> StorageError:
    """Return the StorageError for an error: what cannot be `done`, where, why, what to do; no secret.

    Its meaning is that of `meaning_of` unless another one is known.
    """
    meaning = meaning or meaning_of(error)
    quoted = f" ({_quoted(error)})" if meaning.quoted else ""
    return StorageError(f"{location} cannot be {done}: {meaning.reason}{quoted}. {meaning.remedy}")


def _quoted(error: Exception) -> str:
    """Return the message of boto3 or the server in one line; for a wrong clock or region, add the right one."""
    text = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
    if isinstance(error, ClientError):
        answer: dict[str, Any] = dict(error.response.get("Error", {}))
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        text = f"{code_of(error) or 'no code'}: {answer.get('Message') or 'no message'}"
        if meaning_of(error) is CLOCK and "date" in headers:
            text += f" The store says {headers['date']}"
        region = answer.get("Region") or headers.get("x-amz-bucket-region")
        if meaning_of(error) is REGION and region:
            text += f" It is in {region}"
    text = "".join(each if each.isprintable() else "?" for each in " ".join(masked(text).split())).rstrip(".")
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."


def _status_of(error: ClientError) -> int | None:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
