"""How does a test run the flow in its own process, and with which config?"""

from typing import Any

from prefect.client.schemas.objects import State

from flows.gan_train import gan_train
from gan.config import TrainConfig

CONFIG = TrainConfig(num_steps=20, snapshot_steps=10, batch_size=32, num_threads=1)


def run(config: TrainConfig = CONFIG) -> State[Any]:
    state: State[Any] = gan_train(config, return_state=True)
    return state
