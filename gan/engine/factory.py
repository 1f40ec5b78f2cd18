"""Which engine trains a config?"""

from gan.config import RunConfig
from gan.engine.autograd import AutogradEngine
from gan.engine.base import Engine
from gan.engine.cpu.engine import CpuEngine
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState
from gan.recipes.resolve import recipe_of


def engine_for(state: TrainState, config: RunConfig) -> Engine:
    """Return the engine for the config's recipe and the state's device."""
    if recipe_of(config).engine == "autograd":
        return AutogradEngine(state, config)
    return CpuEngine(state, config) if state.device.type == "cpu" else GpuEngine(state, config)
