"""Which engine takes the steps of a config?"""

from gan.config import TrainConfig
from gan.conv_engine import ConvEngine
from gan.cpu_engine import CpuEngine
from gan.engine import Engine
from gan.gpu_engine import GpuEngine
from gan.state import TrainState


def engine_for(state: TrainState, config: TrainConfig) -> Engine:
    """Choose by recipe and device."""
    if config.recipe == "dcgan":
        return ConvEngine(state, config)
    return CpuEngine(state, config) if state.device.type == "cpu" else GpuEngine(state, config)
