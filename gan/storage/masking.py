"""How is a text shown without the secrets in it?"""

import html
import json
import os
import re
from collections import deque
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

SECRETS = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "GAN_NOTIFY_URL",
)  # fmt: skip
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_PUBLIC_ENDPOINT_URL")
MASK = "***"

_used: deque[str] = deque(maxlen=64)  # secrets that came from profiles, files and processes; a token lasts an hour


def remember(*secrets: str | None) -> None:
    """Mask these secrets from now on, as those in the environment."""
    _used.extend(secret for secret in secrets if secret and secret not in _used)


def remember_url(url: str) -> None:
    """Mask the user and the password of this URL from now on, even where they have blanks in them."""
    remember(url.rpartition("@")[0].partition("//")[2])


def masked(text: str) -> str:
    """Remove credentials from a text: those in a URL, those in the environment, and those remembered."""
    return re.sub(r"\S+", lambda word: masked_url(word[0]), _without_known(text))


def masked_url(url: str) -> str:
    """Remove the user, the password, the query and the fragment from a URL; a password may have any character."""
    if url.startswith("npm:") and "//" not in url:  # a package: the @ is before its version
        return url
    before, at, after = url.rpartition("@")
    if at:
        scheme, slashes, _ = before.partition("//")
        url = f"{scheme if slashes else ''}{slashes}{MASK}@{after}"
    return re.sub(r"(?<=[?#]).+?(?=[\"'`).,]*$)", MASK, url, flags=re.DOTALL, count=1) if "//" in url else url


def cause_without_secrets(error: BaseException) -> BaseException | None:
    """Return an error as the cause of another one; None where its traceback would show a secret."""
    link: BaseException | None = error
    while link:
        shown = f"{link} {link!r}"
        if _without_known(shown) != shown or re.search(r"//\S*@", shown):
            return None
        link = link.__cause__ or link.__context__
    return error


def _without_known(text: str) -> str:
    for name in ENDPOINTS:
        if url := os.environ.get(name):
            text = text.replace(url, masked_url(url))
    secrets = {*_used, *(os.environ.get(name, "") for name in SECRETS)}
    forms = {form for secret in secrets for form in _forms(secret)}
    for form in sorted(forms - {""}, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it may be written: with and without its blanks, escaped, and in one line."""
    for text in (secret, secret.strip()):
        yield from (text, " ".join(text.split()))
        yield from (repr(text)[1:-1], repr(text.encode(errors="surrogateescape"))[2:-1], json.dumps(text)[1:-1])
        yield from (html.escape(text), quote(text, errors="replace"), quote(text, "", errors="replace"))
        yield quote_plus(text, errors="replace")
