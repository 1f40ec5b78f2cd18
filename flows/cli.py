"""What does the command `gan-train` do? It runs the flow in its own process."""

import logging
import os
import secrets
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.logs import EXTRA_LOGGERS, LOGGERS, enable_info
from gan import __version__
from gan.cli.common_options import DEFAULT_SETS_DIR, DRY_RUN, FROM_SCRATCH, MIRROR, NO_PINNED_HASH
from gan.cli.entry import Invocation, debug_option, pass_invocation, run_command
from gan.cli.options import TrainCommand, config_from, config_options
from gan.config import MNIST_SHAPE, TrainConfig
from gan.errors import SettingError, StorageError
from gan.runs.manifest import check_run_id

if TYPE_CHECKING:
    from flows.settings import Settings

PREFECT_SETTINGS = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": EXTRA_LOGGERS,
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # Prefect's own server would stay behind after a kill
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def main() -> int:
    """Run `gan-train` and return its exit code."""
    return run_command(gan_train)


@click.command("gan-train", cls=TrainCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@config_options
@click.option("--run-id", metavar="ID", help="Resume this run, or start a run of this name. Default: time and recipe.")
@click.option(
    "--store",
    metavar="DIR|s3://BUCKET[/PREFIX]",
    help="Store of the runs. A bucket gets grids and checkpoints during training. Also GAN_STORE; default ./store.",
)
@click.option("--data-dir", metavar="DIR", help="Directory of the four MNIST files. Also GAN_DATA_DIR; default ./data.")
@MIRROR
@NO_PINNED_HASH
@click.option(
    "--sets-dir", metavar="DIR", help="Folder of the imported data sets. Also GAN_SETS_DIR; default ./data/sets."
)
@FROM_SCRATCH
@DRY_RUN
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one line of JSON for programs.")
@debug_option("Show Prefect's log, and the traceback of an error.")
@pass_invocation
def gan_train(invocation: Invocation, /, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Train a GAN on MNIST as a Prefect flow: download, validate, train, report, publish, evaluate, promote."""
    config = config_from(options)
    _check_names(**options)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # so that every `finally` runs
    _log_to_stderr(invocation.debug)
    if dry_run:
        from gan.sets.loading import shape_of
        from gan.training.resolving import resolve_here

        sets_dir = options["sets_dir"] or os.environ.get("GAN_SETS_DIR") or DEFAULT_SETS_DIR
        shape = shape_of(Path(sets_dir), config.data) if config.data else MNIST_SHAPE
        click.echo(resolve_here(config, shape=shape)[0].model_dump_json(indent=2))
        return 0
    invocation.prints_result = as_json
    _check_home()
    os.environ.update({name: os.environ.get(name, value) for name, value in PREFECT_SETTINGS.items()})
    from flows.prefect_settings import check_settings

    check_settings()
    settings = _settings(config, **options)
    from flows.command import run_flow
    from flows.tasks import Stopped, check_run

    check_run(config, settings)
    click.echo(f"run {settings.run_id} in {settings.run_path}", err=True)
    outcome, error = run_flow(config, settings)
    for line in outcome.health:
        click.echo(f"health: {line}", err=True)
    if as_json:
        click.echo(outcome.model_dump_json())
    elif outcome.address:
        click.echo(outcome.address)
    if isinstance(error, Stopped):
        click.echo(error, err=True)
        return error.exit_code
    if error:
        raise error
    return 0


class _EchoHandler(logging.Handler):
    """Write to the present sys.stderr, which a live progress line replaces so that it stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _log_to_stderr(debug: bool) -> None:
    """Show what our modules log. With `debug`, Prefect shows that, and what it logs itself."""
    enable_info()
    if not debug:
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
        for name in LOGGERS:
            logging.getLogger(name).addHandler(_EchoHandler())


def _check_home() -> None:
    """Raise SettingError where this user has no home directory: Prefect cannot be imported then."""
    try:
        Path.home()
    except RuntimeError as error:
        raise SettingError("this user has no home directory, which Prefect needs. Set HOME to a folder.") from error


def _check_names(run_id: str | None, store: str | None, **_others: object) -> None:
    """Raise click.UsageError for a run id or a store that cannot be used."""
    from gan.storage.address import open_store

    try:
        check_run_id(run_id or "new")
        open_store(store or "store")
    except StorageError as error:
        raise click.UsageError(str(error)) from error


def _settings(
    config: TrainConfig,
    run_id: str | None,
    store: str | None,
    data_dir: str | None,
    mirrors: tuple[str, ...],
    no_pinned_hash: bool,
    sets_dir: str | None,
    from_scratch: bool,
) -> "Settings":
    """Put the options into the environment, where the flow reads its settings, and return these."""
    from flows.settings import Settings

    given = {
        "GAN_RUN_ID": run_id or os.environ.get("GAN_RUN_ID") or _new_run_id(config),
        "GAN_STORE": store,
        "GAN_DATA_DIR": data_dir,
        "GAN_MNIST_MIRRORS": ",".join(mirrors),
        "GAN_SETS_DIR": sets_dir,
        "GAN_NO_PINNED_HASH": "1" if no_pinned_hash else None,
        "GAN_FROM_SCRATCH": "1" if from_scratch else None,
    }
    os.environ.update({name: value for name, value in given.items() if value})
    return Settings.from_env(config.recipe)


def _new_run_id(config: TrainConfig) -> str:
    recipe = config.recipe.rpartition(":")[2][:60]  # the name alone, of one that is not built in
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{recipe}-{secrets.token_hex(2)}"
