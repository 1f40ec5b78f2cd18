"""Can the variables be used that name a proxy? Every program reads HTTP_PROXY, HTTPS_PROXY and ALL_PROXY."""

import os
from urllib.parse import urlsplit

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def fault_of_proxies() -> str | None:
    """Return a sentence about the first of these variables that is no address; it never has the value."""
    for name in (*NAMES, *map(str.lower, NAMES)):
        value = os.environ.get(name)
        if value and not _is_proxy(value):
            return (
                f"{name} is not the address of a proxy. Set it to http://HOST:PORT or http://USER:PASSWORD@HOST:PORT. "
                "In the password, write / as %2F, # as %23, ? as %3F and @ as %40; its value is not shown."
            )
    return None


def _is_proxy(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number: the part of a password before a slash
        return False
    rest = parts.path + parts.query + parts.fragment  # an @ in it follows a password with one of / ? #
    return is_address and value.isprintable() and " " not in value and "@" not in rest
