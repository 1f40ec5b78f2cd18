"""Which engine takes the steps of a config?"""

from gan.config import TrainConfig
from gan.engine.autograd import ConvEngine
from gan.engine.base import Engine
from gan.engine.cpu.engine import CpuEngine
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState


def engine_for(state: TrainState, config: TrainConfig) -> Engine:
    """Choose by recipe and device."""
    if config.recipe == "dcgan":
        return ConvEngine(state, config)
    return CpuEngine(state, config) if state.device.type == "cpu" else GpuEngine(state, config)
