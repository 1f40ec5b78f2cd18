"""Are Prefect's settings usable, and where is each of them set?

Import this before the rest of Prefect, which cannot be imported while a setting is wrong.
"""

import io
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import click
import yaml  # type: ignore[import-untyped]
from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import SettingsError

from gan.errors import SettingError
from gan.storage.masking import masked_url
from gan.storage.proxies import fault_of_proxies

said = io.StringIO()
with redirect_stderr(said):  # Prefect tells of a wrong setting in a traceback; our sentence takes its place
    import_module("prefect.settings")

from prefect.settings import DEFAULT_PROFILES_PATH, Settings  # noqa: E402
from prefect.settings.sources import _get_profiles_path  # noqa: E402

ENVIRONMENT = "the environment"
UNKNOWN = "Prefect's settings"
SECRET = re.compile("KEY|AUTH|PASSWORD|SECRET|TOKEN|CONNECTION_URL|HEADERS|CREDENTIAL")
CREDENTIALS = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")


def check_settings() -> None:
    """Raise SettingError if Prefect cannot use its settings. The message names the setting and where it is set."""
    try:
        for _label, _names in _sources():
            pass  # a damaged file raises
        settings = Settings()
    except ValidationError as error:
        raise SettingError("\n".join(_complaints(error))) from None  # the error shows values, which may be secret
    except SettingsError as error:
        raise SettingError(_unreadable(error)) from None
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise SettingError(f"Prefect's settings cannot be read: {error}") from error
    if fault := fault_of_proxies():
        raise SettingError(fault)
    _check_api(settings)
    _check_proxies()
    _check_files(settings)
    click.echo(said.getvalue(), nl=False, err=True)  # its warnings
    said.truncate(0)


def source_of(*names: str) -> str:
    """Return where a setting is set, given all its names: in the environment, a file, or a profile of a file."""
    return next((label for label, there in _sources() if there & set(names)), UNKNOWN)


def _sources() -> Iterator[tuple[str, set[str]]]:
    """Yield each place in which Prefect looks for settings, and the names that it has there. The first one counts."""
    yield ENVIRONMENT, {name.upper() for name in os.environ}
    yield ".env", {name.upper() for name in dotenv_values(".env", encoding="utf-8")}
    yield "prefect.toml", set(_names("PREFECT", _read_toml(Path("prefect.toml"))))
    tools = _read_toml(Path("pyproject.toml")).get("tool", {})
    yield "pyproject.toml", set(_names("PREFECT", tools.get("prefect", {})))
    path = _get_profiles_path()
    name, profile = _active_profile(path)
    yield f"the profile {name!r} in {path}", set(profile)


def _names(prefix: str, table: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the settings in a table: [api] url is PREFECT_API_URL."""
    for key, value in table.items():
        name = f"{prefix}_{key.upper()}"
        if isinstance(value, dict):
            yield from _names(name, value)
        yield name


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(
            f"{path} cannot be read ({error.strerror}). Prefect needs it: correct or move it."
        ) from error
    except ValueError as error:
        raise SettingError(f"{path} is not TOML ({error}). Prefect reads it: correct it, or move it away.") from error


def _active_profile(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the profile that Prefect uses. Raises SettingError if the file has no such profile."""
    file = _read_toml(path)
    profiles, ours = _read_toml(DEFAULT_PROFILES_PATH)["profiles"], file.get("profiles", {})
    if not isinstance(ours, dict) or not all(isinstance(each, dict) for each in ours.values()):
        raise SettingError(f"{path} has no tables [profiles.NAME]. Prefect reads it: correct it, or move it away.")
    profiles.update(ours)
    name = os.environ.get("PREFECT_PROFILE") or file.get("active") or "ephemeral"
    if name not in profiles:
        where = "PREFECT_PROFILE" if os.environ.get("PREFECT_PROFILE") else f"`active` in {path}"
        raise SettingError(f"{where} is {name!r}. There is no such profile; there are {', '.join(sorted(profiles))}.")
    return name, profiles[name]


def _complaints(error: ValidationError) -> Iterator[str]:
    """Yield a sentence for each wrong value."""
    for each in error.errors(include_url=False):
        if each["type"] == "default_factory_not_called":  # it follows from another wrong value
            continue
        names = _names_of(error.title, each["loc"])
        where = source_of(*names)
        name = next((name for name in names if name in os.environ), names[0])
        value = "" if SECRET.search(name) else f" is {each['input']!r}"
        yield f"{name}{value} (set in {where}): {each['msg']}. Correct it, or take it out there."


def _unreadable(error: SettingsError) -> str:
    """Return a sentence on a value that is no JSON. Prefect names its field only."""
    field = re.findall(r'field "(\w+)"', str(error))[:1]
    pattern = f"PREFECT_\\w*_{field[0].upper()}" if field else "$"
    names = (name for _, there in _sources() for name in there if re.fullmatch(pattern, name))
    name = next(names, "A setting of Prefect")
    return f"{name} (set in {source_of(name)}) cannot be read: {error}. Correct it, or take it out there."


def _names_of(title: str, place: tuple[int | str, ...]) -> list[str]:
    """Return the names of the variables of a field; `title` is the class in which it is found at this place."""
    model = next(each for each in _models(Settings) if each.__name__ == title)
    field = "_".join(map(str, place)).upper()
    for name, info in model.model_fields.items():
        aliases = [each.upper() for each in getattr(info.validation_alias, "choices", []) if isinstance(each, str)]
        if aliases and field in (name.upper(), *aliases):
            return [each for each in aliases if each.startswith("PREFECT_")]
    return [f"{model.model_config['env_prefix']}{field}"]


def _models(model: Any) -> Iterator[Any]:
    yield model
    for info in model.model_fields.values():
        if hasattr(info.annotation, "model_fields"):
            yield from _models(info.annotation)


def _check_api(settings: Settings) -> None:
    """Check what no request can be made with: the address, and what is sent as the password."""
    url = settings.api.url
    if url and (wrong := _wrong_address(url)):
        raise SettingError(
            f"PREFECT_API_URL is {masked_url(repr(url))} (set in {source_of('PREFECT_API_URL')}): {wrong}. "
            "Set it to an address such as http://127.0.0.1:4200/api."
        )
    if settings.api.request_timeout <= 0:
        where = source_of("PREFECT_API_REQUEST_TIMEOUT")
        raise SettingError(f"PREFECT_API_REQUEST_TIMEOUT (set in {where}) is not above 0. Set it to 60, say.")
    for name, secret in zip(CREDENTIALS, (settings.api.key, settings.api.auth_string), strict=True):
        value = secret.get_secret_value() if secret else ""
        if not value.isprintable() or (name == "PREFECT_API_KEY" and not value.isascii()):
            what = "ends with a line end" if value[-1] in "\r\n" else "has a character that cannot be sent"
            raise SettingError(f"{name} (set in {source_of(name)}) {what}. Correct it; its value is not shown.")


def _check_proxies() -> None:
    """Check that Prefect's client, which is made with all of them, knows the kind of each proxy."""
    for kind, url in getproxies().items():
        scheme = url.partition("://")[0].lower() if "://" in url else "http"
        known = scheme in ("http", "https") or (scheme in ("socks5", "socks5h") and find_spec("socksio"))
        if kind in ("http", "https", "all") and not known:
            raise SettingError(
                f"{kind}_proxy is a proxy by {scheme}://, which Prefect's client does not know here. Name one by "
                f"http://, or unset {kind}_proxy for this command."
            )


def _check_files(settings: Settings) -> None:
    """Check what Prefect would end at later: its home, and its own settings of logging."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        if (path := settings.logging.config_path) and path.is_file():
            yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SettingError(f"{path} is not YAML. Correct it, or set PREFECT_LOGGING_CONFIG_PATH anew.") from error
    except OSError as error:
        raise SettingError(
            f"PREFECT_HOME is {str(settings.home)!r} (set in {source_of('PREFECT_HOME')}), which is no folder that can "
            f"be used ({error.strerror}). Set it to another one."
        ) from error


def _wrong_address(url: str) -> str | None:
    if not url.isprintable() or " " in url:
        return "it has a blank, a line end or another character that no address has"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https"):
        return "it does not begin with http:// or https://"
    return None if parts.hostname else "it has no host"
