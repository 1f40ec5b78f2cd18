"""Which engine trains a config?"""

from gan.config import RunConfig
from gan.engine.autograd import AutogradEngine
from gan.engine.base import Engine
from gan.engine.cpu.engine import CpuEngine
from gan.engine.custom_networks import CustomEngine
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState
from gan.recipes.base import CustomNetworks
from gan.recipes.resolve import recipe_of


def engine_for(state: TrainState, config: RunConfig) -> Engine:
    """Return the engine for the config's recipe and the state's device."""
    recipe = recipe_of(config)
    networks = recipe.networks_for(config.data_shape)
    if isinstance(networks, CustomNetworks):
        return CustomEngine(state, config)
    if recipe.engine == "autograd" or networks is recipe.networks_of_others:
        return AutogradEngine(state, config)
    return CpuEngine(state, config) if state.device.type == "cpu" else GpuEngine(state, config)
