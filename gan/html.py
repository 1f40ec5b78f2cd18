"""How does a page of HTML get its values?

Each value is escaped, so that it cannot bring markup or a script of its own.
"""

import base64
import functools
import hashlib
import re
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


class Templates:
    """The templates, style sheets and scripts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, template: str, /, **values: Any) -> Markup:
        """Return a template's HTML. Each value is escaped, unless it is Markup."""
        return Markup(self.environment.get_template(template).render(**values))

    def source(self, name: str) -> Markup:
        """Return a style sheet or script to put into a page as it is."""
        return Markup((self.folder / name).read_text(encoding="utf-8"))

    @functools.cached_property
    def environment(self) -> Environment:
        """Return the settings and filters of every template."""
        environment = Environment(
            loader=FileSystemLoader(self.folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # The filter `tojson` also escapes <, > and &, so that no string can end the script element around it.
        environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
        environment.filters |= FILTERS
        return environment


def csp_hash(text: str) -> str:
    """Return the source by which a Content-Security-Policy allows an inline script or style sheet."""
    return f"'sha256-{to_base64(hashlib.sha256(text.encode()).digest())}'"


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _distance(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _rounded(value: object) -> object:
    """Return a float with 4 significant digits at most, as people write it; anything else as it is."""
    if not isinstance(value, float):
        return value
    return f"{value:.4g}".replace("e-0", "e-")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def _utc(time: str) -> str:
    """Return an ISO 8601 time without fractions of a second and, if it is UTC, with that word."""
    return re.sub(r"\.\d+", "", time).replace("T", " ").replace("+00:00", " UTC")


FILTERS = {
    "base64": to_base64,
    "coordinate": "{:g}".format,
    "distance": _distance,
    "duration": _duration,
    "percent": _percent,
    "rounded": _rounded,
    "shell": shlex.quote,
    "thousands": "{:,}".format,
    "utc": _utc,
}
