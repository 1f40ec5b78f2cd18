"""What does an error of boto3 mean to a user, and what can be done about it?

Every exception of botocore has a line here; a test fails when a new one has none.
"""

import os
import re
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, UndefinedModelAttributeError

from gan.errors import StorageError

BOTO_ERRORS = (BotoCoreError, ClientError, UndefinedModelAttributeError)
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
MAX_WORDS = 300  # of a message that is not ours


class Place(NamedTuple):
    """Say what was asked for, and whom."""

    bucket: str
    key: str  # or prefix; "" for the bucket itself
    endpoint: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key} at {masked(self.endpoint)}"


class Meaning(NamedTuple):
    """Say what an error means; `quoted` where botocore's or the server's own words tell more, and no secret."""

    reason: str
    remedy: str
    quoted: bool = True


UNREACHABLE = Meaning(
    "the store cannot be reached, or does not answer",
    "Check that it runs, the network, and the endpoint (AWS_ENDPOINT_URL_S3); then try again.",
)
TLS = Meaning(
    "no trusted TLS connection can be made",
    "Name the authority that signed the store's certificate in AWS_CA_BUNDLE, or correct the endpoint "
    "(AWS_ENDPOINT_URL_S3): a store without TLS begins with http://, its host must be the certificate's.",
)
CREDENTIALS = Meaning(
    "there are no credentials that can be used",
    "Give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in AWS_SHARED_CREDENTIALS_FILE, or log in again.",
    quoted=False,  # what a credential helper prints may be a secret
)
REFUSED_CREDENTIALS = Meaning(
    "the store does not accept the credentials",
    "Check that the access key and its secret are this store's, and whole, and have not expired.",
)
SETTINGS = Meaning(
    "boto3's settings make no sense",
    "Correct the AWS_... variables, or the profile in AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE.",
)
ADDRESS = Meaning("this is no address that S3 knows", "Give the store as s3://BUCKET or s3://BUCKET/PREFIX.")
DAMAGED = Meaning("it was damaged on the way", "Try again; if it happens often, check the network and the machine.")
INTERNAL = Meaning("boto3 has failed", "Check that boto3 is installed whole; if it is, please report this.")
NO_BUCKET = Meaning("there is no such bucket", "Create it, or correct the store's address or AWS_ENDPOINT_URL_S3.")
NO_OBJECT = Meaning("there is no such object", "Check the address, and whether somebody has deleted it.")
DENIED = Meaning(
    "access is denied",
    "Give credentials that may list, get, put and delete objects in this bucket (to read alone: list and get).",
)
REGION = Meaning("the bucket is in another region", "Set AWS_DEFAULT_REGION to the bucket's region.")
CLOCK = Meaning("this machine's clock and the store's differ too much", "Set this machine's clock, by NTP say.")
FULL = Meaning("the store is full, or a quota is used up", "Make room in the store, with `gan prune` say; try again.")
FAILING = Meaning("the store is overloaded or has failed", "Try again later; see the store's own log if it goes on.")
UNSUPPORTED = Meaning(
    "the store cannot do what is needed",
    "Use one that knows conditional writes (If-None-Match, If-Match) and SHA-256 checksums.",
)
UNKNOWN = Meaning("the store refuses", "See the store's documentation for this code.")

BY_EXCEPTION = {
    name: meaning
    for meaning, names in (
        (
            UNREACHABLE,
            "ConnectionError ConnectTimeoutError EndpointConnectionError ProxyConnectionError HTTPClientError "
            "ConnectionClosedError ReadTimeoutError ResponseStreamingError IncompleteReadError "
            "CapacityNotAvailableError AwsChunkedWrapperError UnseekableStreamError",
        ),
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
            "UndefinedModelAttributeError OperationNotPageableError PaginationError UnknownClientMethodError "
            "UnsupportedServiceProtocolsError WaiterConfigError WaiterError StubResponseError StubAssertionError "
            "UnStubbedResponseError",
        ),
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
        (UNSUPPORTED, "NotImplemented MethodNotAllowed 405 501"),
    )
    for code in codes.split()
}


def code_of(error: ClientError) -> str:
    """Return a server's code for an error; where the answer had no body, as to a HEAD, its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def meaning_of(error: Exception) -> Meaning:
    """Find what one of BOTO_ERRORS means."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return BY_CODE.get(code_of(error)) or BY_CODE.get(str(status)) or UNKNOWN
    names = (kind.__name__ for kind in type(error).__mro__)
    return next(BY_EXCEPTION[name] for name in names if name in BY_EXCEPTION)


def storage_error(error: Exception, place: Place, done: str) -> StorageError:
    """Put one of BOTO_ERRORS into words: what cannot be `done` where, why, and what to do; never a secret."""
    meaning = meaning_of(error)
    words = f" ({_words(error)})" if meaning.quoted else ""
    return StorageError(f"{place} cannot be {done}: {meaning.reason}{words}. {meaning.remedy}")


def masked(text: str) -> str:
    """Take credentials out of a text: those of a URL, and those that the environment holds."""
    text = re.sub(r"//[^/\s]*@", "//***@", text)
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return text


def _words(error: Exception) -> str:
    """Say in one line what boto3, or the server, says; of a wrong clock or region also what would be right."""
    words = str(error)
    if isinstance(error, ClientError):
        answer: dict[str, Any] = dict(error.response.get("Error", {}))
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        words = f"{code_of(error)}: {answer.get('Message') or 'no message'}"
        if meaning_of(error) is CLOCK and "date" in headers:
            words += f" The store says {headers['date']}"
        if meaning_of(error) is REGION and (region := answer.get("Region") or headers.get("x-amz-bucket-region")):
            words += f" It is in {region}"
    words = masked(" ".join(words.split())).rstrip(".")
    return words if len(words) <= MAX_WORDS else words[:MAX_WORDS] + "..."
