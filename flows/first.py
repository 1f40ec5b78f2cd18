"""What do the worker and the deployment import first? This: a wrong setting of Prefect ends them in one sentence."""

import sys

import click

from flows.prefect_settings import check_settings
from gan.cli.entry import open_standard_streams
from gan.errors import SettingError

open_standard_streams()
try:
    check_settings()
except SettingError as error:
    click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)
