"""Which engine trains a config?"""

from gan.config import TrainConfig
from gan.engine.autograd import AutogradEngine
from gan.engine.base import Engine
from gan.engine.cpu.engine import CpuEngine
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState


def engine_for(state: TrainState, config: TrainConfig) -> Engine:
    """Return the engine for the config's recipe and the state's device."""
    if config.recipe == "dcgan":
        return AutogradEngine(state, config)
    return CpuEngine(state, config) if state.device.type == "cpu" else GpuEngine(state, config)
