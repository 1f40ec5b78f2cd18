"""What is the workflow? Download, validate, train, report, publish, evaluate, promote."""

import logging
from signal import SIGINT
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.runtime import deployment
from prefect.states import Cancelled, Failed

from flows.recovery import is_cancelling, put_back
from flows.settings import Workplace
from flows.tasks import (
    Stopped,
    download_mnist,
    evaluate_gan,
    promote_champion,
    publish_run,
    render_report,
    train_gan,
    validate_mnist,
)
from gan.config import TrainConfig
from gan.errors import GanError
from gan.recipes.describe import DescribedByRecipes

DEFAULTS = TrainConfig()


@flow(name="gan-train", persist_result=False, result_serializer="json")
def gan_train(config: Annotated[TrainConfig, DescribedByRecipes()] = DEFAULTS) -> str | State[Any]:
    """Train a GAN on MNIST, from the download to a published run, maybe the champion; return its address.

    Where it happens is read from the environment, see Workplace. A run that is there already is gone on with.
    """
    logging.getLogger("gan").setLevel(logging.INFO)  # Prefect takes what the level lets through, by default warnings
    workplace = Workplace.from_env()
    try:
        download_mnist(workplace)
        validate_mnist(workplace)
        train_gan(config, workplace, return_state=True).result()  # a Cancelled state raises only here
        render_report(workplace)
        address = publish_run(workplace)
        if contender := evaluate_gan(workplace):
            promote_champion(workplace, contender)
        return address
    except GanError as error:
        return Failed(message=str(error), data=error)
    except Stopped as stopped:
        return _stopped(stopped)
    except (KeyboardInterrupt, TerminationSignal) as interrupt:
        return _stopped(Stopped(getattr(interrupt, "signal", SIGINT), "outside of training", workplace))


def _stopped(stopped: Stopped) -> State[Any]:
    """Return how a run ends that a signal has stopped; under a worker it goes on later, unless it was cancelled."""
    if deployment.id is not None and not is_cancelling():
        put_back(f"{stopped.where}; goes on by itself")
    return Cancelled(message=str(stopped), data=stopped)
