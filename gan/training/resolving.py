"""What does this machine decide about a run? Its device, threads and precision, where the config leaves them open."""

from pathlib import Path

from gan.config import MNIST_SHAPE, DataShape, RunConfig, TrainConfig
from gan.device import Device, choose_device, choose_num_threads, choose_precision, cuda_fault
from gan.errors import DeviceError
from gan.recipes.resolve import resolve


def device_of(config: RunConfig, path: Path) -> Device:
    """Return the device of an existing run. Raises DeviceError when it cannot be used here."""
    if config.device == "cuda" and (fault := cuda_fault()):
        raise DeviceError(
            f"{path} was made on cuda, which cannot be used here: {fault}. "
            "A run keeps its device: resume it on a machine with a GPU, or start another run."
        )
    return choose_device(config.device)


def resolve_here(asked: TrainConfig, default_seed: int = 0, shape: DataShape = MNIST_SHAPE) -> tuple[RunConfig, Device]:
    """Fill the open fields of a config, on this machine, for images of this shape.

    Raises:
        DeviceError: its device cannot be used.
        DataError: its recipe has no networks for the images.
    """
    device = choose_device(asked.device)
    num_threads, precision = choose_num_threads(), choose_precision(device.kind)
    config = resolve(
        asked, seed=default_seed, device=device.kind, num_threads=num_threads, precision=precision, shape=shape
    )
    return config, device
