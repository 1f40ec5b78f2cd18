"""How do the fields of TrainConfig become options of a command, and back?"""

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gan.config import TrainConfig


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command one option for each field of TrainConfig, with its bounds and its help."""
    for name, field in reversed(TrainConfig.model_fields.items()):
        flag = "--" + name.replace("_", "-")
        flag += f"/--no-{name}" if bool in get_args(field.annotation) else ""
        command = click.option(flag, name, type=_click_type(field), default=None, help=_help(field))(command)
    return command


def config_from(values: dict[str, Any]) -> TrainConfig:
    """Take the config's fields out of a command's values; those not given stay unset.

    Raises:
        click.UsageError: values that do not fit, with their bounds.
    """
    given = {name: values.pop(name) for name in TrainConfig.model_fields}
    try:
        return TrainConfig(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        lines = [f"--{str(fault['loc'][0]).replace('_', '-')}: {fault['msg']}" for fault in error.errors()]
        raise click.UsageError("; ".join(lines)) from error


def _click_type(field: FieldInfo) -> click.ParamType[Any]:
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)] or [field.annotation]
    for annotation in (field.annotation, *kinds):
        if get_origin(annotation) is Literal:
            return click.Choice(get_args(annotation))
    if kinds == [bool]:
        return click.BOOL
    bounds = {
        key: getattr(rule, key) for rule in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(rule, key)
    }
    limits: dict[str, Any] = {
        "min": bounds.get("ge", bounds.get("gt")),
        "max": bounds.get("le", bounds.get("lt")),
        "min_open": "gt" in bounds,
        "max_open": "lt" in bounds,
    }
    return click.IntRange(**limits) if kinds == [int] else click.FloatRange(**limits)


def _help(field: FieldInfo) -> str:
    default = "" if field.default is None else f" Default {field.default}."
    return f"{field.description}{default}"
