"""What is the workflow? Download, validate, train, report, publish, evaluate, promote."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Cancelled, Failed

from flows.logs import enable_info
from flows.prefect_compat import STOPPED, signal_of
from flows.recovery import is_cancelling, put_back
from flows.run_form import RunForm
from flows.settings import Settings
from flows.tasks import (
    Stopped,
    check_run,
    download_mnist,
    evaluate_gan,
    hold_published,
    promote_champion,
    publish_run,
    render_report,
    train_gan,
    validate_mnist,
)
from gan.cli.streams import drop_unwritable_output
from gan.config import TrainConfig
from gan.errors import GanError, UnexpectedError
from gan.storage.unexpected import unexpected

DEFAULTS: Any = TrainConfig().model_dump(exclude_none=True)  # a dict, because the Run form submits it as it is
DESCRIPTION = (
    "Train a GAN on MNIST, publish the run in the store, and make it the champion if it is better. "
    "The run page shows its progress, newest samples, film and figures."
)


# What is not given here, Prefect takes from its settings: a flow that is tried again would not end with this error.
@flow(name="gan-train", description=DESCRIPTION, retries=0, persist_result=False, result_serializer="json")
def gan_train(config: Annotated[TrainConfig, RunForm()] = DEFAULTS) -> str | State[Any]:
    """Train a GAN on MNIST and publish the run; return its address.

    The run becomes the store's champion if it is better. Store, data and run are read from the environment: see
    Settings. An existing run is resumed.
    """
    drop_unwritable_output()  # under a worker no command has done so
    enable_info()
    try:
        settings = Settings.from_env()
    except GanError as error:
        return Failed(message=str(error), data=error)
    try:
        check_run(settings)
        download_mnist(settings)
        validate_mnist(settings)
        train_gan(config, settings, return_state=True).result()  # only .result() raises for a Cancelled state
        render_report(settings)
        address = publish_run(settings)
        with hold_published(settings):  # so that nobody prunes the run before it is decided
            if contender := evaluate_gan(settings):
                promote_champion(settings, contender)
        return address
    except GanError as error:
        return Failed(message=str(error), data=error)
    except Stopped as stopped:
        return _stopped(stopped)
    except STOPPED as interrupt:
        return _stopped(Stopped(signal_of(interrupt), "outside of training", settings))
    except Exception as error:  # noqa: BLE001 - Prefect would keep its message and its traceback
        told = UnexpectedError(unexpected(error))
        return Failed(message=str(told), data=told)


def _stopped(stopped: Stopped) -> State[Any]:
    """Return the state of a run that a signal has stopped. Under a worker, put it back into the queue instead."""
    if deployment.id is not None and not is_cancelling():
        put_back(f"{stopped.where}; it resumes by itself")
    return Cancelled(message=str(stopped), data=stopped)
