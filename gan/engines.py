"""Which engine takes the steps of a config?"""

from gan.config import TrainConfig
from gan.conv_engine import ConvEngine
from gan.engine import Engine
from gan.mlp_engine import MlpEngine
from gan.state import TrainState


def engine_for(state: TrainState, config: TrainConfig) -> Engine:
    """Choose by recipe."""
    return ConvEngine(state, config) if config.recipe == "dcgan" else MlpEngine(state, config)
