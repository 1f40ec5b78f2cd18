"""What is the workflow? Download, validate, train, report, publish, evaluate, promote."""

from contextlib import ExitStack
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Cancelled, Failed

from flows.data_tasks import download_mnist, fetch_set, set_of, validate_mnist
from flows.labels import FLOW
from flows.logs import enable_info
from flows.prefect_compat import STOPPED, end_process, signal_of
from flows.requeue import check_ours, is_cancelling, label_run, put_back, put_back_later
from flows.retries import PASSING
from flows.run_form import RunForm
from flows.settings import Settings, recipes_from_env
from flows.tasks import (
    Stopped,
    check_run,
    evaluate_gan,
    hold_run,
    promote_champion,
    publish_run,
    render_report,
    train_gan,
)
from gan.cli.streams import drop_unwritable_output
from gan.config import TrainConfig
from gan.errors import GanError, TakenOverError, UnexpectedError
from gan.recipes.custom.importing import permit
from gan.storage.unexpected import unexpected
from gan.sync.lease import Lease

DEFAULTS: Any = TrainConfig().model_dump(exclude_none=True)  # a dict, because the Run form submits it as it is
DESCRIPTION = (
    "Train a GAN on MNIST, publish the run in the store, and make it the champion if it is better. "
    "The run page shows its progress, newest samples, film and figures."
)


# What is not given here, Prefect takes from its settings: a flow that is tried again would not end with this error.
@flow(name=FLOW, description=DESCRIPTION, retries=0, persist_result=False, result_serializer="json")
def gan_train(config: Annotated[TrainConfig, RunForm()] = DEFAULTS) -> str | State[Any]:
    """Train a GAN on MNIST and publish the run; return its address.

    The run becomes the store's champion if it is better. Store, data and run are read from the environment: see
    Settings. An existing run is resumed.
    """
    drop_unwritable_output()  # under a worker no command has done so
    enable_info()
    try:
        settings = Settings.from_env(config.recipe)
        for recipe in recipes_from_env():
            permit(recipe)
    except GanError as error:
        return Failed(message=str(error), data=error)
    try:
        return _run(config, settings)
    except TakenOverError as error:
        return _taken_over(error)


def _run(config: TrainConfig, settings: Settings) -> str | State[Any]:
    """Do all tasks; return the run's address, or the state in which the flow run ends.

    Raises:
        TakenOverError: the state of the flow run is another process's.
    """
    try:
        check_run(config, settings)
        if address := set_of(config, settings):
            fetch_set(address, settings)
        else:
            download_mnist(settings)
            validate_mnist(settings)
        with ExitStack() as held:
            lease = hold_run(settings, held)
            if deployment.id is not None:
                label_run(settings)
            ended = _train(config, settings, lease)
            check_ours(lease)
            return ended
    except TakenOverError:
        raise
    except GanError as error:
        return _failed(error, settings, None)
    except STOPPED as interrupt:
        return _stopped(Stopped(signal_of(interrupt), "outside of training", settings), None)
    except Exception as error:  # noqa: BLE001 - Prefect would keep its message and its traceback
        return _failed(UnexpectedError(unexpected(error)), settings, None)


def _train(config: TrainConfig, settings: Settings, lease: Lease | None) -> str | State[Any]:
    """Train, publish, evaluate and promote; return the run's address, or the state in which the flow run ends."""
    try:
        train_gan(config, settings, lease, return_state=True).result()  # only .result() raises for a Cancelled state
        render_report(settings)
        address = publish_run(settings, lease)
        if contender := evaluate_gan(config, settings):
            promote_champion(config, settings, contender, lease)
        return address
    except TakenOverError:
        raise
    except GanError as error:
        return _failed(error, settings, lease)
    except Stopped as stopped:
        return _stopped(stopped, lease)
    except STOPPED as interrupt:
        return _stopped(Stopped(signal_of(interrupt), "outside of training", settings), lease)
    except Exception as error:  # noqa: BLE001 - as above
        return _failed(UnexpectedError(unexpected(error)), settings, lease)


def _failed(error: GanError, settings: Settings, lease: Lease | None) -> State[Any]:
    """Return the state of a run that has failed. Under a worker, an error that may pass puts it back."""
    check_ours(lease)
    if deployment.id is not None and isinstance(error, PASSING):
        put_back_later(str(error), settings)
    return Failed(message=str(error), data=error)


def _stopped(stopped: Stopped, lease: Lease | None) -> State[Any]:
    """Return the state of a run that a signal has stopped. Under a worker, put it back into the queue instead."""
    check_ours(lease, patient=False)  # who sent the signal waits
    if deployment.id is not None and not is_cancelling():
        put_back(f"{stopped.where}; it resumes by itself")
    return Cancelled(message=str(stopped), data=stopped)


def _taken_over(error: TakenOverError) -> State[Any]:
    """Return the state of a command's flow run. A deployment's flow run is the other process's: leave it alone."""
    if deployment.id is not None:
        end_process(str(error))
    return Cancelled(message=str(error), data=error)
